"""Masks and targets against plain loops over words, for the three kinds of vocabulary."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.presets import PreTrainingConfig
from dupmae_toolkit.training.data.collator import PreTrainingCollator, bag_of_words
from dupmae_toolkit.training.data.masking import budgets, decoder_visibility, whole_word_masks
from dupmae_toolkit.training.data.words import Words
from tests.tiny import SIZE, tiny_tokenizer

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
CORPUS = [
    "The unbelievable quickness of brown foxes surprised everybody in the neighbourhood.",
    "Retrieval, ranking and re-ranking: three different (very different!) undertakings.",
    "Don't overestimate understanding; misunderstandings happen quickly, everywhere.",
]


def trained(kind: str) -> PreTrainedTokenizerFast:
    """A small tokenizer whose words fall apart into several tokens."""
    if kind == "wordpiece":
        backend = Tokenizer(models.WordPiece(unk_token="<unk>"))  # type: ignore[call-arg]
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL)
    elif kind == "bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=340,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    else:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=110, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        bos_token="<s>",
        eos_token="</s>",
        mask_token="<mask>",
    )


def words_of(tokenizer: Any, text: str) -> list[str]:
    """The text of each word that Words finds, by the tokenizer's own offsets."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids = np.asarray([encoded["input_ids"]])
    words = Words(tokenizer)
    numbers = words.number(ids, words.ordinary[ids])[0]
    assert (numbers[0], numbers[-1]) == (-1, -1)
    spans: dict[int, list[tuple[int, int]]] = {}
    for number, span in zip(numbers, encoded["offset_mapping"], strict=True):
        if number >= 0:
            spans.setdefault(int(number), []).append(span)
    assert list(spans) == list(range(len(spans)))
    return [text[s[0][0] : s[-1][1]].strip() for s in spans.values()]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_words_are_those_between_spaces_and_punctuation(kind: str):
    tokenizer = trained(kind)
    text = "The misunderstandings, quickness (and undertakings) happen everywhere."
    assert len(tokenizer.tokenize(text)) > 15
    assert words_of(tokenizer, text) == [
        *["The", "misunderstandings", ",", "quickness", "(", "and", "undertakings", ")"],
        *["happen", "everywhere", "."],
    ]


def test_a_sentence_without_spaces_is_words_of_one_character():
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), *[(c, -1.0) for c in "▁検索は楽しい"]], 0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", mask_token="<mask>", cls_token="<s>"
    )
    tokenizer.add_tokens(["▁the", "▁of"])
    ids = np.asarray([tokenizer.convert_tokens_to_ids(list("▁検索は楽しい"))])
    words = Words(tokenizer)
    assert len(set(words.number(ids, words.ordinary[ids])[0].tolist())) == 6


def test_bytes_of_unspaced_scripts_begin_words_too():
    tokenizer = trained("bpe")
    assert words_of(tokenizer, "検索 fox") == ["検", "索", "fox"]


def test_a_vocabulary_without_marks_makes_every_token_a_word():
    vocabulary = {"<unk>": 0, "red": 1, "fox": 2, "<mask>": 3}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", mask_token="<mask>"
    )
    words = Words(tokenizer)
    assert words.number(np.asarray([[1, 2, 0]]), np.ones((1, 3), bool)).tolist() == [[0, 1, 2]]


def sequential_mask(words: list[int], room: int, rng: random.Random) -> list[bool]:
    """One whole-word mask as published: shuffle the words, take each that still fits."""
    order = sorted({w for w in words if w >= 0})
    rng.shuffle(order)
    chosen, used = set(), 0
    for word in order:
        size = words.count(word)
        if used + size <= room:
            chosen.add(word)
            used += size
    return [w in chosen for w in words]


WORDS = [-1, 0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4, 5, 6, -1]


def test_masks_are_drawn_as_often_as_the_published_loop_draws_them():
    count = 20_000
    words, room = np.asarray([WORDS]), budgets(np.asarray([len(WORDS)]), 0.5)
    assert room.tolist() == [8]  # 7.5 rounds to even
    masks = whole_word_masks(words, room, count, np.random.default_rng(0))[0]
    ours = Counter(map(tuple, masks.tolist()))
    rng = random.Random(0)
    theirs = Counter(tuple(sequential_mask(WORDS, 8, rng)) for _ in range(count))
    assert set(ours) == set(theirs)
    for mask, times in theirs.items():
        # Both are samples: their difference has at most this standard deviation.
        assert abs(ours[mask] - times) < 5 * (2 * times) ** 0.5 + 5


def test_masks_hold_whole_words_within_their_room_and_leave_none_that_fits():
    rng = np.random.default_rng(1)
    for _ in range(50):
        length = int(rng.integers(3, 60))
        begins = rng.random(length - 2) < 0.6
        words = np.concatenate([[-1], np.cumsum(begins) - begins[0], [-1]])
        room = budgets(np.asarray([length]), float(rng.uniform(0.1, 0.9)))
        for mask in whole_word_masks(words[None], room, 5, rng)[0]:
            assert not mask[0]
            assert not mask[-1]
            sizes = Counter(words[1:-1].tolist())
            chosen = set(words[mask].tolist())
            assert mask.sum() == sum(sizes[w] for w in chosen) <= room[0]
            left = room[0] - mask.sum()
            assert all(size > left for word, size in sizes.items() if word not in chosen)


def test_a_mask_has_room_for_at_least_one_token():
    assert budgets(np.asarray([1, 2, 30, 512]), 0.3).tolist() == [1, 1, 9, 154]


def test_a_word_larger_than_the_room_is_never_masked():
    words = np.asarray([[-1, 0, 0, 0, 0, 0, -1]])
    masks = whole_word_masks(words, np.asarray([2]), 10, np.random.default_rng(0))
    assert not masks.any()


def test_decoder_rows_hide_themselves_see_cls_and_sep_and_share_a_pool():
    length, pool = 40, 3
    words = np.concatenate([[-1], np.arange(length - 2) // 2, [-1]])[None]
    lengths = np.asarray([length])
    visible = decoder_visibility(words, lengths, 0.5, pool, np.random.default_rng(0))[0]
    assert not visible.diagonal().any()
    others = ~np.eye(length, dtype=bool)
    assert visible[others[:, 0], 0].all()
    assert visible[others[:, -1], -1].all()
    # Fill the diagonal from the word's other half to get back the mask that was drawn.
    hidden = ~visible
    for row in range(1, length - 1):
        hidden[row, row] = hidden[row, row + 1 if row % 2 else row - 1]
    hidden[0, 0] = hidden[-1, -1] = False
    drawn = Counter(map(tuple, hidden.tolist()))
    assert len(drawn) == pool
    assert all(sum(mask) == length * 0.5 for mask in drawn)
    assert min(drawn.values()) > 3  # each of the pool's masks is drawn by several rows


def test_a_short_texts_pool_has_as_many_masks_as_tokens_and_rows_draw_with_replacement():
    length, seen = 6, set()
    words = np.asarray([[-1, 0, 1, 2, 3, -1]])
    for seed in range(200):
        rng = np.random.default_rng(seed)
        visible = decoder_visibility(words, np.asarray([length]), 0.5, 256, rng)[0]
        masks = {tuple(row[[1, 2, 3, 4]]) for row in visible[[0, 5]]}
        seen.add(len(masks))
    assert seen == {1, 2}


def test_padding_is_neither_seen_nor_seeing():
    words = np.asarray([[-1, 0, 1, -1, -1, -1], [-1, 0, 1, 2, 3, -1]])
    visible = decoder_visibility(words, np.asarray([4, 6]), 0.5, 256, np.random.default_rng(0))
    assert not visible[0, 4:].any()
    assert not visible[0, :, 4:].any()
    assert visible[1, 5, 0]


def collate(texts: list[str], seed: int = 0, preset: str = "official", **changes: Any) -> dict:
    tokenizer = tiny_tokenizer()
    config = PreTrainingConfig.preset(preset, **changes)
    examples = [{"input_ids": tokenizer(text)["input_ids"]} for text in texts]
    return PreTrainingCollator(tokenizer, config, seed=seed)(examples)


LONG = " ".join(f"w{i % 50}p{i % 9}" for i in range(60))


def test_a_batch_has_the_shapes_types_and_padding_it_promises():
    batch = collate(["w1 w2 w1", "w3p1p2 w4 w5 w6"])
    assert {name: (tuple(t.shape), t.dtype) for name, t in batch.items()} == {
        "input_ids": ((2, 8), torch.int64),
        "attention_mask": ((2, 8), torch.int64),
        "labels": ((2, 8), torch.int64),
        "decoder_input_ids": ((2, 8), torch.int64),
        "decoder_labels": ((2, 8), torch.int64),
        "decoder_attention_mask": ((2, 8, 8), torch.bool),
        "bow_ids": ((2, 6), torch.int64),
        "bow_weights": ((2, 6), torch.float32),
    }
    assert batch["attention_mask"].sum(dim=1).tolist() == [5, 8]
    assert batch["decoder_input_ids"].tolist() == [
        [2, 6, 7, 6, 3, 0, 0, 0],
        [2, 8, 56, 57, 9, 10, 11, 3],
    ]
    assert batch["decoder_labels"].tolist() == [
        [-100, 6, 7, 6, -100, -100, -100, -100],
        [-100, 8, 56, 57, 9, 10, 11, -100],
    ]


def test_labels_are_the_original_ids_of_masked_tokens_only():
    batch = collate([LONG] * 8)
    masked = batch["labels"] != -100
    original = batch["decoder_input_ids"]
    assert torch.equal(batch["labels"][masked], original[masked])
    assert torch.equal(batch["input_ids"][~masked], original[~masked])
    length = original.shape[1]
    assert masked.sum(dim=1).tolist() == [round(0.3 * length) // 2 * 2] * 8  # words of two tokens


def test_of_the_masked_eight_in_ten_become_mask_one_another_token_one_stays():
    batch = collate([LONG] * 400)
    masked = batch["labels"] != -100
    before, after = batch["labels"][masked], batch["input_ids"][masked]
    total = len(before)
    to_mask, stayed = (after == 4).sum() / total, (after == before).sum() / total
    assert to_mask == pytest.approx(0.8, abs=0.01)
    assert stayed == pytest.approx(0.1, abs=0.01)
    others = set(after[(after != 4) & (after != before)].tolist())
    assert others == {1, *range(5, SIZE)}


def test_the_bag_of_words_has_each_term_once_with_the_weight_of_the_preset():
    batch = collate(["w9 w1 w9 w9", "w3"])
    assert batch["bow_ids"].tolist() == [[6, 14], [8, 0]]
    torch.testing.assert_close(batch["bow_weights"], torch.tensor([[0.25, 0.25], [1.0, 0.0]]))
    batch = collate(["w9 w1 w9 w9", "w3"], preset="paper")
    torch.testing.assert_close(batch["bow_weights"], torch.tensor([[1.0, 1.0], [1.0, 0.0]]))


def test_the_bag_of_words_equals_a_loop_over_sets():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 30, (20, 25))
    ordinary = rng.random((20, 25)) < 0.7
    ordinary[3] = False
    terms, weights = bag_of_words(ids, ordinary, "frequency")
    for row in range(20):
        words = ids[row][ordinary[row]].tolist()
        pairs = [(t, w) for t, w in zip(terms[row], weights[row], strict=True) if w > 0]
        assert [t for t, _ in pairs] == sorted(set(words))
        assert all(w == np.float32(1 / len(words)) for _, w in pairs)


def test_targets_are_as_long_as_the_texts_and_never_as_the_vocabulary():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"more{i}" for i in range(20_000)])
    ids = tokenizer("w1 w2 w3")["input_ids"]
    batch = PreTrainingCollator(tokenizer)([{"input_ids": ids}] * 4)
    assert all(tensor.numel() <= 4 * 5 * 5 for tensor in batch.values())


def same(first: dict, second: dict) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_batch_depends_on_seed_epoch_and_ids_and_on_nothing_that_went_before():
    tokenizer = tiny_tokenizer()
    examples = [{"input_ids": tokenizer(LONG)["input_ids"]}] * 3
    collator = PreTrainingCollator(tokenizer, seed=4)
    first = collator(examples)
    np.random.seed(99)
    torch.manual_seed(99)
    collator([{"input_ids": [2, 9, 3]}])
    assert same(first, collator(examples))
    assert same(first, PreTrainingCollator(tokenizer, seed=4)(examples))
    assert not same(first, PreTrainingCollator(tokenizer, seed=5)(examples))
    assert not same(collator(examples[:2]), {k: v[:2] for k, v in first.items()})
    collator.epoch = 1
    assert not same(first, collator(examples))


def test_equal_texts_of_a_batch_get_masks_of_their_own():
    batch = collate([LONG] * 6)
    assert len({tuple(row) for row in batch["labels"].tolist()}) == 6
    assert len({tuple(row.flatten().tolist()) for row in batch["decoder_attention_mask"]}) == 6


def test_a_mask_follows_from_the_seed_on_every_machine():
    """A change of these numbers changes what a resumed training sees."""
    masks = whole_word_masks(
        np.asarray([WORDS]), np.asarray([5]), 3, np.random.default_rng([7, 0, 1])
    )
    assert [np.flatnonzero(mask).tolist() for mask in masks[0]] == [
        [1, 2, 3, 7, 12],
        [7, 8, 9, 10, 11],
        [1, 2, 3, 5, 6],
    ]


def test_lengths_are_padded_to_the_multiple_that_was_asked_for():
    collator = PreTrainingCollator(tiny_tokenizer(), pad_to_multiple_of=8)
    batch = collator([{"input_ids": [2, 9, 9, 9, 9, 9, 9, 9, 3]}])
    assert batch["input_ids"].shape == (1, 16)
    assert batch["attention_mask"].sum() == 9


def test_arrays_of_ids_are_taken_as_lists_are():
    collator = PreTrainingCollator(tiny_tokenizer())
    ids = [2, 9, 55, 3]
    assert same(
        collator([{"input_ids": ids}]), collator([{"input_ids": np.asarray(ids, np.int32)}])
    )


@pytest.mark.parametrize("examples", [[], [{"input_ids": []}]])
def test_an_empty_batch_or_text_is_refused_in_one_line(examples: list):
    with pytest.raises(InputError, match="at least one token"):
        PreTrainingCollator(tiny_tokenizer())(examples)


def test_a_tokenizer_without_a_mask_token_is_refused_in_one_line():
    backend = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    with pytest.raises(InputError, match="no mask token"):
        PreTrainingCollator(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
