"""Pre-training and fine-tuning of tiny models: what is written, and what a resume continues."""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from dupmae_toolkit import DupMAEEncoder
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.model.pretraining import DupMAEForPreTraining
from dupmae_toolkit.training import finetune as finetuning
from dupmae_toolkit.training.data.frequencies import TermFrequencies
from dupmae_toolkit.training.data.groups import Pair
from dupmae_toolkit.training.data.pair_collator import PairCollator
from dupmae_toolkit.training.finetune import finetune
from dupmae_toolkit.training.pair_model import PairModel
from dupmae_toolkit.training.pretrain import pretrain
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.running.history import history
from dupmae_toolkit.training.running.resuming import last_checkpoint, whole_checkpoints
from dupmae_toolkit.training.sources import DataSource, TeacherSource
from dupmae_toolkit.training.teachers import Side, Teachers
from tests.families import save_checkpoint, sentences
from tests.support import Killed

STEPS = 6
FEW = 64
EVERY_LOSS = {
    "joint": 1.0,
    "lexical": 0.5,
    "dense": 0.5,
    "teacher_joint": 1.0,
    "teacher_lexical": 1.0,
    "teacher_dense": 1.0,
    "teacher_vector": 2.0,
}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Leave out what would be most of each test's time.

    Thousands of texts for the document frequencies, and accelerate's collecting of garbage among
    all that was imported.
    """
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "PRIOR_TEXTS", FEW)
        yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a model, a teacher, and two files of texts."""
    folder = tmp_path_factory.mktemp("home")
    save_checkpoint(folder / "model")
    save_checkpoint(folder / "teacher", seed=5)
    for number, name in enumerate(("a", "b")):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for i in range(30):
                title, *rest = sentences(6, seed=100 * number + i, words=8)
                file.write(json.dumps({"title": title, "text": " ".join(rest)}) + "\n")
    return folder


def every_teacher(home):
    folder = str(home / "teacher")
    return [
        TeacherSource("dense", folder),
        TeacherSource("lexical", folder, scale=0.3),
        TeacherSource("bm25", scale=0.3),
    ]


def pretrain_recipe(home, output, **changes):
    settings = {
        "model": str(home / "model"),
        "output": str(output),
        "data": [DataSource(str(home / "a.jsonl")), DataSource(str(home / "b.jsonl"), weight=2)],
        "steps": STEPS,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "save_every": 2,
        "log_every": 2,
        "max_length": 40,
        "precision": "fp32",
    }
    return PretrainRecipe(**{**settings, **changes})


def finetune_recipe(home, output, **changes):
    settings = {
        "model": str(home / "model"),
        "output": str(output),
        "data": [DataSource(str(home / "a.jsonl")), DataSource(str(home / "b.jsonl"), "sentence")],
        "steps": STEPS,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "save_every": 2,
        "log_every": 2,
        "query_length": 20,
        "document_length": 40,
        "precision": "fp32",
        "losses": dict(EVERY_LOSS),
        "teachers": every_teacher(home),
        "near_batches": 3,
        "flops_query": 0.1,
        "flops_document": 0.1,
        "active_terms": 20,
        "unigram_prior": 0.5,
        "encoder": {"normalize": True, "top_k": 30},
    }
    return FinetuneRecipe(**{**settings, **changes})


KINDS = {"pretrain": (pretrain, pretrain_recipe), "finetune": (finetune, finetune_recipe)}
both_kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def undisturbed(home):
    """The result of each kind of training that nothing disturbed."""
    done = {}
    for kind, (train, recipe) in KINDS.items():
        heard: list[dict[str, float]] = []
        output = train(recipe(home, home / f"undisturbed-{kind}"), listen=heard.append)
        done[kind] = output, heard
    return done


@pytest.fixture
def two_steps(home, tmp_path):
    """A fine-tuning of which two steps were made; it may be damaged."""
    folder = tmp_path / "two-steps"
    if not (home / "two-steps").exists():
        finetune(finetune_recipe(home, home / "two-steps", steps=2))
    return Path(shutil.copytree(home / "two-steps", folder))


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def losses(folder: Path) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    clock = {"tokens_per_second", "peak_share", "seconds_left"}
    return [
        {key: value for key, value in entry.items() if key not in clock}
        for entry in history(folder)
        if not {"train_runtime", "preflight"} & set(entry)
    ]


@both_kinds
def test_losses_and_active_terms_are_logged(undisturbed, kind):
    output, heard = undisturbed[kind]
    entries = losses(output.parent)
    assert [entry["step"] for entry in entries] == [2, 4, 6]
    parts = {
        "pretrain": {"mlm", "decoder", "bow", "active"},
        "finetune": {*EVERY_LOSS, "flops_query", "flops_document", "active_query"},
    }
    for entry in entries:
        assert parts[kind] | {"loss", "learning_rate", "grad_norm"} <= set(entry)
        assert all(isinstance(value, int | float) for value in entry.values())
    assert [entry for entry in heard if "loss" in entry] == [
        entry for entry in history(output.parent) if "loss" in entry
    ]
    if kind == "finetune":
        # The head was shifted so that twenty terms are active before the first step.
        assert 5 < entries[0]["active_document"] < 60
    assert json.loads((output.parent / "recipe.json").read_text())["steps"] == STEPS


def test_the_logged_loss_is_the_weighted_sum_of_its_parts(undisturbed):
    for entry in losses(undisturbed["pretrain"][0].parent):
        total = entry["mlm"] + entry["decoder"] + 0.1 * entry["bow"]
        assert entry["loss"] == pytest.approx(total, rel=1e-4)
    first = losses(undisturbed["finetune"][0].parent)[0]
    total = sum(weight * first[name] for name, weight in EVERY_LOSS.items())
    # The ramp is at 0 in the first step and at a ninth in the second; the log has their mean.
    flops = 0.1 * (first["flops_query"] + first["flops_document"])
    assert total <= first["loss"] <= total + flops / 9


@both_kinds
@pytest.mark.parametrize("name", ["final", "checkpoint-6", "checkpoint-4"])
def test_checkpoints_are_ordinary_transformers_folders(undisturbed, kind, name):
    folder = undisturbed[kind][0].parent / name
    lm = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = DupMAEEncoder.from_pretrained(folder, precision="fp32")
    batch = tokenizer(["river war star"], return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(lm(**batch).logits, encoder.lm(**batch).logits)
    if kind == "finetune":
        assert (encoder.config.normalize, encoder.config.top_k) == (True, 30)
    else:
        assert (folder / "decoder.safetensors").exists()
    pickles = {path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth")}
    resumable = {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    assert pickles == (set() if name == "final" else resumable)


@both_kinds
def test_only_the_last_two_checkpoints_are_kept_and_nothing_else_lies_about(undisturbed, kind):
    names = sorted(path.name for path in undisturbed[kind][0].parent.iterdir())
    assert names == ["checkpoint-4", "checkpoint-6", "final", "log.jsonl", "recipe.json"]


def test_the_teachers_are_neither_trained_nor_saved(home, undisturbed):
    folder = undisturbed["finetune"][0].parent / "checkpoint-6"
    encoder = DupMAEEncoder.from_pretrained(folder)
    state = torch.load(folder / "optimizer.pt", weights_only=True)
    trained = sum(len(group["params"]) for group in state["param_groups"])
    assert trained == len(list(encoder.parameters()))
    stored = set(load_file(folder / "model.safetensors"))
    assert stored <= set(encoder.lm.state_dict())
    recipe = finetune_recipe(home, home / "unused")
    teachers = Teachers(recipe.teachers, encoder, TermFrequencies.of(encoder, ["river"], 40))
    PairModel(encoder, recipe, teachers).train()
    assert not any(weight.requires_grad for weight in teachers.parameters())
    assert not any(module.training for teacher in teachers for module in teacher.modules())


@both_kinds
def test_training_changes_the_weights_and_says_so(home, undisturbed, kind):
    before = DupMAEEncoder.from_pretrained(home / "model")
    after = DupMAEEncoder.from_pretrained(undisturbed[kind][0])
    assert before.info.weights_sha256 != after.info.weights_sha256


@both_kinds
def test_the_same_recipe_gives_the_same_bits(home, tmp_path, undisturbed, kind):
    train, recipe = KINDS[kind]
    torch.manual_seed(99)  # whatever was drawn before
    output = train(recipe(home, tmp_path / "again"))
    assert weights(output) == weights(undisturbed[kind][0])
    other = train(recipe(home, tmp_path / "other", seed=2))
    assert weights(other) != weights(undisturbed[kind][0])


@both_kinds
@pytest.mark.parametrize("moment", [0, 2, 4])
def test_a_training_that_was_killed_ends_as_an_undisturbed_one(
    home, tmp_path, undisturbed, kind, moment
):
    train, recipe = KINDS[kind]

    def die(entry):
        if entry["step"] > moment:
            raise Killed

    with pytest.raises(Killed):
        train(recipe(home, tmp_path / "out"), listen=die)
    heard = []
    output = train(recipe(home, tmp_path / "out"), resume=True, listen=heard.append)
    assert weights(output) == weights(undisturbed[kind][0])
    assert losses(output.parent) == losses(undisturbed[kind][0].parent)
    resumed = [entry["step"] for entry in heard if "resumed" in entry]
    assert resumed == ([moment] if moment else [])


KILLER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import torch
from pathlib import Path
from tests.test_training import FEW, KINDS, finetuning
finetuning.PRIOR_TEXTS = FEW
place, count, kind, home, output = sys.argv[2], int(sys.argv[3]), *sys.argv[4:7]
module, name = {"optimizer": (torch, "save"), "rename": (os, "rename")}[place]
original = getattr(module, name)
calls = 0

def deadly(*arguments, **options):
    global calls
    calls += 1
    if calls == count:
        os._exit(9)
    return original(*arguments, **options)

setattr(module, name, deadly)
train, recipe = KINDS[kind]
train(recipe(Path(home), output))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "count", "kind", "last"),
    [("optimizer", 5, "finetune", "checkpoint-2"), ("rename", 20, "pretrain", "checkpoint-2")],
)
def test_a_process_killed_while_it_saves_leaves_the_last_good_checkpoint(
    home, tmp_path, undisturbed, place, count, kind, last
):
    arguments = [str(Path(__file__).parent.parent), place, str(count), kind, str(home)]
    done = subprocess.run(
        [sys.executable, "-c", KILLER, *arguments, str(tmp_path / "out")],
        capture_output=True,
        # Sums over other numbers of threads are other sums.
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        check=False,
    )
    assert done.returncode == 9, done.stderr.decode()
    assert any(path.name.startswith(".tmp-") for path in (tmp_path / "out").iterdir())
    assert last_checkpoint(tmp_path / "out").name == last
    train, recipe = KINDS[kind]
    output = train(recipe(home, tmp_path / "out"), resume=True)
    assert not any(path.name.startswith(".tmp-") for path in (tmp_path / "out").iterdir())
    for name, data in weights(output).items():
        ours = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        theirs = (undisturbed[kind][0] / name).read_bytes()
        assert torch.equal(ours, torch.frombuffer(bytearray(theirs), dtype=torch.uint8))


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(home, tmp_path, monkeypatch):
    original, saved = torch.save, []

    def full(*arguments, **options):
        saved.append(arguments)
        if len(saved) == 5:
            raise OSError(28, "No space left on device")
        return original(*arguments, **options)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        DupMAEError, match=r"checkpoint-4: cannot be written \(.*No space left"
    ) as e:
        finetune(finetune_recipe(home, tmp_path / "out"))
    assert "\n" not in str(e.value)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["checkpoint-2", "log.jsonl", "recipe.json"]


def test_half_written_checkpoints_are_not_resumed_from(undisturbed, tmp_path):
    whole = undisturbed["finetune"][0].parent
    assert [path.name for path in whole_checkpoints(whole)] == ["checkpoint-4", "checkpoint-6"]
    for name, state in (
        ("checkpoint-7", None),
        ("checkpoint-8", '{"global_step": 8'),
        ("checkpoint-9", "[]"),
        ("checkpoint-10", '{"global_step": 9}'),
        ("checkpoint-x", '{"global_step": 9}'),
        ("checkpoint-2", '{"global_step": 2}'),
    ):
        (tmp_path / name).mkdir()
        if state is not None:
            (tmp_path / name / "trainer_state.json").write_text(state)
    assert [path.name for path in whole_checkpoints(tmp_path)] == ["checkpoint-2"]
    assert last_checkpoint(tmp_path / "nowhere") is None


@both_kinds
def test_resuming_a_finished_training_changes_nothing(home, tmp_path, undisturbed, kind):
    train, recipe = KINDS[kind]
    output = train(recipe(home, tmp_path / "out"))
    before = losses(output.parent)
    assert train(recipe(home, tmp_path / "out"), resume=True) == output
    assert weights(output) == weights(undisturbed[kind][0])
    assert losses(output.parent) == before


def test_a_training_can_go_on_with_more_steps_and_another_rate(home, tmp_path):
    finetune(finetune_recipe(home, tmp_path / "out"))
    longer = finetune_recipe(home, tmp_path / "out", steps=10, learning_rate=5e-4, weight_decay=0)
    finetune(longer, resume=True)
    rates = {entry["step"]: entry["learning_rate"] for entry in losses(tmp_path / "out")}
    # Warm-up over one step, then linearly to 0; the log has the rate after the step before.
    assert rates[6] == pytest.approx(1e-3 * 1 / 5)
    assert rates[8] == pytest.approx(5e-4 * (10 - 7) / 9)
    state = torch.load(tmp_path / "out" / "checkpoint-10" / "optimizer.pt", weights_only=True)
    assert {group["weight_decay"] for group in state["param_groups"]} == {0.0}


def test_an_output_that_holds_a_training_is_refused_without_resume(home, tmp_path, undisturbed):
    folder = undisturbed["finetune"][0].parent
    with pytest.raises(InputError, match=r"holds a training; go on with --resume .*, or remove it"):
        finetune(finetune_recipe(home, folder))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    # Said before anything is loaded: the model does not exist either.
    with pytest.raises(InputError, match="holds a training"):
        pretrain(pretrain_recipe(home, tmp_path / "full", model="nowhere"))
    (tmp_path / "empty").mkdir()
    pretrain(pretrain_recipe(home, tmp_path / "empty", steps=1))


def test_an_output_that_is_a_file_is_one_line(home, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be created"):
        finetune(finetune_recipe(home, tmp_path / "file"))


def test_two_trainings_in_one_folder_are_refused(home, tmp_path):
    (tmp_path / "out").mkdir()
    with (
        exclusive(tmp_path / "out"),
        pytest.raises(InputError, match="another process is writing there"),
    ):
        finetune(finetune_recipe(home, tmp_path / "out"))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.parametrize("way", ["pickle", "torch"])
def test_no_pickle_in_a_checkpoint_can_run_code(home, tmp_path, two_steps, name, way):
    victim = tmp_path / "touched"
    path = two_steps / "checkpoint-2" / name
    if way == "torch":
        torch.save(Evil(victim), path)
    else:
        path.write_bytes(pickle.dumps(Evil(victim)))
    recipe = finetune_recipe(home, two_steps, steps=3)
    if name == "rng_state.pth":  # never read: each step seeds torch itself
        finetune(recipe, resume=True)
    else:
        with pytest.raises(InputError, match=f"{name}: this training cannot go on") as refusal:
            finetune(recipe, resume=True)
        assert "\n" not in str(refusal.value)
    assert not victim.exists()


@pytest.mark.parametrize("damage", ["missing optimizer", "cut optimizer", "other weights"])
def test_a_damaged_checkpoint_is_one_line(home, two_steps, damage):
    folder = two_steps / "checkpoint-2"
    if damage == "missing optimizer":
        (folder / "optimizer.pt").unlink()
    elif damage == "cut optimizer":
        data = (folder / "optimizer.pt").read_bytes()
        (folder / "optimizer.pt").write_bytes(data[: len(data) // 2])
    else:
        save_checkpoint(folder, hidden_size=8)
    with pytest.raises(InputError, match="this training cannot go on from it") as refusal:
        finetune(finetune_recipe(home, two_steps, steps=3), resume=True)
    assert "\n" not in str(refusal.value)


def test_a_training_of_the_other_kind_cannot_be_resumed(home, tmp_path):
    pretrain(pretrain_recipe(home, tmp_path / "out", steps=2))
    with pytest.raises(InputError, match="this training cannot go on from it"):
        finetune(finetune_recipe(home, tmp_path / "out"), resume=True)


@both_kinds
def test_a_loss_that_is_no_number_stops_with_one_line_and_the_way_back(
    home, tmp_path, monkeypatch, kind
):
    train, recipe = KINDS[kind]
    module = PairModel if kind == "finetune" else DupMAEForPreTraining
    original, calls = module.forward, []

    def broken(self, *arguments, **options):
        calls.append(1)
        output = original(self, *arguments, **options)
        if len(calls) <= 2 + 3:  # two before the training, to see what it will take
            return output
        return (output[0] * float("nan"), *output[1:])

    if kind == "pretrain":
        from dupmae_toolkit.model.pretraining import PreTrainingOutput

        plain = broken
        broken = lambda *a, **o: PreTrainingOutput(*plain(*a, **o))  # noqa: E731
    monkeypatch.setattr(module, "forward", broken)
    with pytest.raises(DupMAEError, match="the loss is nan at step 4; go on from ") as error:
        train(recipe(home, tmp_path / "out"))
    assert "checkpoint-2 with --resume" in str(error.value)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert last_checkpoint(tmp_path / "out").name == "checkpoint-2"


def test_a_loss_that_is_no_number_at_once_says_to_begin_again(home, tmp_path):
    with pytest.raises(DupMAEError, match=r"step \d; begin again with a lower learning_rate"):
        finetune(finetune_recipe(home, tmp_path / "out", learning_rate=1e38, max_grad_norm=0))


def test_a_device_without_room_is_one_line_that_names_the_knobs(home, tmp_path, monkeypatch):
    original = PairModel.forward

    def forward(self, batch, step, steps):
        if step < 3:
            return original(self, batch, step, steps)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate\n2 GiB")

    monkeypatch.setattr(PairModel, "forward", forward)
    with pytest.raises(DupMAEError, match="no memory left at step 3; lower batch_size") as error:
        finetune(finetune_recipe(home, tmp_path / "out"))
    assert "\n" not in str(error.value)


def test_weights_that_are_no_numbers_are_never_saved(home, tmp_path, monkeypatch):
    original = PairModel.forward

    def poisonous(self, batch, step, steps):
        loss, parts = original(self, batch, step, steps)
        if step == 3:  # the loss is fine, its gradient is not
            bias = self.encoder.lm.get_output_embeddings().bias
            loss = loss + torch.sqrt(bias - bias).sum()
        return loss, parts

    monkeypatch.setattr(PairModel, "forward", poisonous)
    with pytest.raises(DupMAEError, match=r"is not finite after step 4; go on from .*checkpoint-2"):
        finetune(finetune_recipe(home, tmp_path / "out"))
    assert last_checkpoint(tmp_path / "out").name == "checkpoint-2"


@both_kinds
def test_missing_and_empty_data_are_refused_before_the_model_is_loaded(home, tmp_path, kind):
    train, recipe = KINDS[kind]
    (tmp_path / "empty.jsonl").write_text("")
    for name in ("empty.jsonl", "none.jsonl"):
        data = [DataSource(str(home / "a.jsonl")), DataSource(str(tmp_path / name))]
        with pytest.raises(InputError, match=name):
            train(recipe(home, tmp_path / "out", data=data, model="nowhere"))
        assert not (tmp_path / "out").exists()


def test_a_line_of_the_data_that_does_not_parse_is_named(home, tmp_path):
    path = tmp_path / "broken.jsonl"
    path.write_text('{"title": "a", "text": "b"}\n' * 3 + "{\n")
    with pytest.raises(InputError, match=r"broken\.jsonl:4: broken JSON"):
        pretrain(pretrain_recipe(home, tmp_path / "out", data=[DataSource(str(path))]))


def dense(folder):
    return TeacherSource("dense", str(folder))


def test_a_lexical_teacher_needs_the_models_vocabulary_and_a_dense_one_its_width(home, tmp_path):
    save_checkpoint(tmp_path / "other", "roberta")
    other = TeacherSource("lexical", str(tmp_path / "other"))
    with pytest.raises(InputError, match="other: a lexical teacher needs the vocabulary of the"):
        finetune(
            finetune_recipe(home, tmp_path / "out", teachers=[other], losses={"teacher_lexical": 1})
        )
    with pytest.raises(InputError, match="no such folder"):
        finetune(finetune_recipe(home, tmp_path / "out", teachers=[dense(tmp_path / "none")]))
    save_checkpoint(tmp_path / "wide", hidden_size=24)
    wide = {"teachers": [dense(tmp_path / "wide")]}
    with pytest.raises(InputError, match="have 24 dimensions and the model's 16"):
        finetune(finetune_recipe(home, tmp_path / "out", **wide))
    finetune(finetune_recipe(home, tmp_path / "out", **wide, steps=1, losses={"teacher_dense": 1}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": {"lexical": 1.0}}, "lexical needs a lexical head"),
        ({"losses": {"dense": 1.0}, "active_terms": 5}, "active_terms needs a lexical head"),
    ],
)
def test_lexical_losses_need_a_lexical_head(home, tmp_path, changes, message):
    changes = {"active_terms": 0, "unigram_prior": 0, "flops_query": 0, **changes}
    with pytest.raises(InputError, match=message):
        finetune(
            finetune_recipe(home, tmp_path / "out", encoder={"lexical_head": "none"}, **changes)
        )


def test_the_dense_part_can_be_trained_alone_with_a_projection(home, tmp_path):
    recipe = finetune_recipe(
        home,
        tmp_path / "out",
        encoder={"lexical_head": "none", "dense_dim": 6},
        losses={"dense": 1.0},
        active_terms=0,
        unigram_prior=0,
        teachers=[],
    )
    output = finetune(recipe)
    encoder = DupMAEEncoder.from_pretrained(output)
    assert encoder.encode_documents(["river"]).dense.shape == (1, 6)
    assert set(losses(output.parent)[0]) >= {"dense", "loss"}
    before = DupMAEEncoder.from_pretrained(home / "model", dense_dim=6)
    assert not torch.equal(encoder.dense_projection.weight, before.dense_projection.weight)


@both_kinds
def test_texts_longer_than_the_backbones_positions_are_refused(home, tmp_path, kind):
    train, recipe = KINDS[kind]
    name = {"pretrain": "max_length", "finetune": "document_length"}[kind]
    with pytest.raises(InputError, match=f"{name} is 65; .* has positions for 64 tokens"):
        train(recipe(home, tmp_path / "out", **{name: 65}))


def test_pairs_are_collated_with_prefixes_lengths_and_what_is_no_negative(home):
    encoder = DupMAEEncoder.from_pretrained(home / "model", prefix="new ", query_prefix="old ")
    collate = PairCollator(encoder, finetune_recipe(home, "unused", query_length=4))
    batch = collate(
        [
            Pair("river", "water stone"),
            Pair("river", "fire wind"),
            Pair("moon", "water stone"),
            Pair("sun star day year", "ice"),
        ]
    )
    tokenizer = encoder.tokenizer
    assert batch["query_ids"][0].tolist() == tokenizer("old river")["input_ids"]
    assert (
        batch["query_ids"][3].tolist()
        == tokenizer("old sun star day year", truncation=True, max_length=4)["input_ids"]
    )
    assert batch["document_ids"][0].tolist() == tokenizer("new water stone")["input_ids"]
    assert batch["document_mask"].tolist() == [[1] * 5, [1] * 5, [1] * 5, [1, 1, 1, 1, 0]]
    same = torch.zeros(4, 4, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True  # the same query: both documents answer it
    same[0, 2] = same[2, 0] = True  # the same document
    assert torch.equal(batch["same"], same)


def test_the_losses_of_a_batch_are_those_of_its_scores(home):
    """Every part once more, from the two vectors that transformers gives."""
    encoder = DupMAEEncoder.from_pretrained(home / "model", precision="fp32", normalize=True)
    recipe = finetune_recipe(home, "unused", dense_scale=7.0)
    frequencies = TermFrequencies.of(encoder, ["river war", "stone"], 40)
    teachers = Teachers(recipe.teachers, encoder, frequencies)
    model = PairModel(encoder, recipe, teachers).eval()
    batch = PairCollator(encoder, recipe)(
        [Pair("river war", "river stone"), Pair("moon", "moon day night"), Pair("ice", "snow")]
    )
    loss, parts = model(batch, step=2, steps=STEPS)
    documents = ["river stone", "moon day night", "snow"]
    q = encoder.encode_queries(["river war", "moon", "ice"])
    encoder.config = encoder.config.but(top_k=0)
    d = encoder.encode_documents(documents)
    dense = 7 * torch.from_numpy(q.dense @ d.dense.T)
    lexical = torch.from_numpy((q.lexical @ d.lexical.T).toarray())
    target = torch.arange(3)
    cross_entropy = torch.nn.functional.cross_entropy
    taught = teachers(*(Side(batch[f"{n}_ids"], batch[f"{n}_mask"]) for n in ("query", "document")))

    def divergence(scores):
        p = taught.logits.softmax(1)
        return (p * (p.log() - scores.log_softmax(1))).sum() / 3

    expected = {
        "teacher_joint": divergence(dense + lexical),
        "teacher_lexical": divergence(lexical),
        "teacher_dense": divergence(dense),
        "teacher_vector": 1
        - float((q.dense * taught.query.numpy()).sum() + (d.dense * taught.document.numpy()).sum())
        / 6,
        "joint": cross_entropy(dense + lexical, target),
        "lexical": cross_entropy(lexical, target),
        "dense": cross_entropy(dense, target),
        "active_document": d.lexical.getnnz() / 3,
        "flops_query": float((q.lexical.toarray().mean(axis=0) ** 2).sum()),
        "flops_document": float((d.lexical.toarray().mean(axis=0) ** 2).sum()),
    }
    for name, value in expected.items():
        assert parts[name] == pytest.approx(float(value), rel=1e-3, abs=1e-4), name
    rise = (2 / 3) ** 2  # the ramp ends at step 3 of 6
    total = sum(weight * parts[name] for name, weight in EVERY_LOSS.items())
    total += rise * 0.1 * (parts["flops_query"] + parts["flops_document"])
    assert loss.item() == pytest.approx(total, rel=1e-4)


def test_a_fresh_head_is_taught_before_the_rest(home, tmp_path):
    from transformers import AutoModel

    save_checkpoint(tmp_path / "headless")
    AutoModel.from_pretrained(home / "model").save_pretrained(tmp_path / "headless")
    recipe = pretrain_recipe(
        home,
        tmp_path / "out",
        model=str(tmp_path / "headless"),
        fresh_head=True,
        head_steps=60,
        head_learning_rate=2e-2,
    )
    heard = []
    pretrain(recipe, listen=heard.append)
    taught = [entry["head_bow"] for entry in heard if "head_bow" in entry]
    assert len(taught) == 30
    assert sum(taught[-5:]) < 0.9 * sum(taught[:5])
    with pytest.raises(InputError, match="no masked-LM head"):
        finetune(finetune_recipe(home, tmp_path / "other", model=str(tmp_path / "headless")))


def test_pre_training_goes_on_from_its_own_result(home, tmp_path, undisturbed):
    recipe = pretrain_recipe(home, tmp_path / "out", model=str(undisturbed["pretrain"][0]), steps=1)
    before = load_file(undisturbed["pretrain"][0] / "decoder.safetensors")
    after = load_file(pretrain(recipe) / "decoder.safetensors")
    largest = max((before[name] - after[name]).abs().max().item() for name in before)
    assert 0 < largest < 0.01


def test_trainings_in_both_precisions_follow_each_other_in_one_process(home, tmp_path):
    for number, precision in enumerate(("bf16", "fp32")):
        recipe = finetune_recipe(home, tmp_path / str(number), steps=2, precision=precision)
        assert losses(finetune(recipe).parent)[0]["loss"] > 0


def test_training_prints_nothing(home, tmp_path, capfd):
    finetune(finetune_recipe(home, tmp_path / "out"))
    pretrain(pretrain_recipe(home, tmp_path / "out2"))
    finetune(finetune_recipe(home, tmp_path / "out", steps=8, save_every=3), resume=True)
    assert capfd.readouterr() == ("", "")


def test_a_log_that_was_cut_off_is_read_to_its_last_whole_line(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert history(tmp_path) == [{"step": 1}, {"step": 2}]
    assert history(tmp_path / "none") == []


def test_a_resumed_training_draws_no_texts_for_its_frequencies_again(
    home, tmp_path, undisturbed, monkeypatch
):
    def die(entry):
        if entry["step"] > 4:
            raise Killed

    with pytest.raises(Killed):
        finetune(finetune_recipe(home, tmp_path / "out"), listen=die)
    saved = tmp_path / "out" / "checkpoint-4" / "frequencies.safetensors"
    assert int(load_file(saved)["documents"].max()) == FEW  # [CLS] is in every text

    def never(self, count):
        raise AssertionError("texts were drawn")

    with monkeypatch.context() as patch:
        patch.setattr(finetuning.Sample, "texts", never)
        output = finetune(finetune_recipe(home, tmp_path / "out"), resume=True)
        assert weights(output) == weights(undisturbed["finetune"][0])
        assert not (output / "frequencies.safetensors").exists()
        # Other data have other frequencies, and a checkpoint of long ago has none.
        shorter = {"steps": 7, "document_length": 30}
        with pytest.raises(AssertionError, match="texts were drawn"):
            finetune(finetune_recipe(home, tmp_path / "out", **shorter), resume=True)
    (tmp_path / "out" / "checkpoint-6" / "frequencies.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"frequencies\.safetensors: this training cannot go on"):
        finetune(finetune_recipe(home, tmp_path / "out", steps=7), resume=True)
    (tmp_path / "out" / "checkpoint-6" / "frequencies.safetensors").unlink()
    finetune(finetune_recipe(home, tmp_path / "out", steps=7), resume=True)


def test_a_teacher_that_no_loss_reads_is_not_loaded_and_the_user_is_told(home, tmp_path):
    absent = TeacherSource("lexical", str(home / "no such model"))
    settings = {"steps": 1, "log_every": 1, "losses": {"joint": 1.0, "teacher_joint": 0.0}}
    heard = []
    recipe = finetune_recipe(home, tmp_path / "out", teachers=[absent], **settings)
    output = finetune(recipe, listen=heard.append)
    said = [entry["warning"] for entry in heard if "warning" in entry]
    assert said == [
        f"teacher 1 (lexical {home / 'no such model'}) is used by no loss and not run; give a "
        "loss 'teacher_…' a weight, or remove it"
    ]
    (entry,) = losses(output.parent)
    assert entry["loss"] == pytest.approx(entry["joint"])
    assert "teacher_joint" not in entry


def test_the_teachers_that_are_asked_are_those_that_the_losses_read(home):
    first, second = dense(home / "teacher"), dense(home / "model")
    idle = TeacherSource("bm25", scale=0.0)
    lexical = TeacherSource("lexical", str(home / "teacher"))
    for losses_, expected in (
        ({"joint": 1.0}, []),
        ({"joint": 1.0, "teacher_vector": 0.0}, []),
        ({"teacher_vector": 1.0}, [first]),
        ({"teacher_dense": 0.5}, [lexical, first, second]),
        ({"teacher_vector": 1.0, "teacher_lexical": 1.0}, [lexical, first, second]),
    ):
        teachers = [idle, lexical, first, second]
        recipe = finetune_recipe(home, "unused", losses=losses_, teachers=teachers)
        assert recipe.used_teachers == expected, losses_


@pytest.mark.parametrize(
    ("encoder", "changes", "weight"),
    [
        ({"normalize": True}, {}, 20.0),
        ({"normalize": True}, {"dense_scale": 8.0}, 8.0),
        ({"normalize": False}, {}, 1.0),
        ({"normalize": True, "lexical_weight": 0.5}, {}, 10.0),
        ({"normalize": True, "dense_weight": 30}, {}, 30.0),
        ({"normalize": True}, {"losses": {"dense": 1.0, "lexical": 1.0}}, 1.0),
    ],
)
def test_a_checkpoint_adds_the_two_scores_as_they_were_trained(
    home, tmp_path, encoder, changes, weight
):
    settings = {"losses": {"joint": 1.0}, "teachers": [], "steps": 1, **changes}
    output = finetune(finetune_recipe(home, tmp_path / "out", encoder=encoder, **settings))
    assert DupMAEEncoder.from_pretrained(output).config.dense_weight == weight


def test_lists_with_no_more_negatives_than_are_drawn_are_told(home, tmp_path):
    rows = [
        {"query": f"river {i}", "pos": ["war star"], "neg": [f"moon {j}" for j in range(i % 4)]}
        for i in range(8)
    ]
    path = tmp_path / "mined.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"data": [DataSource(str(path), "groups")], "steps": 1, "losses": {"joint": 1.0}}
    settings |= {"teachers": [], "near_batches": 0}
    heard = []
    for number, (negatives, depth) in enumerate([(3, 200), (2, 200), (3, 0)]):
        more = {**settings, "negatives": negatives, "negative_depth": depth}
        finetune(finetune_recipe(home, tmp_path / str(number), **more), listen=heard.append)
    said = [entry["warning"] for entry in heard if "warning" in entry]
    assert said == [
        f"{path}: no query has more than 3 negatives, so they are the same ones each time; "
        "dupmae mine writes more with -n 200"
    ]


def test_calibration_reaches_for_other_texts_than_the_first_batches(home, tmp_path, monkeypatch):
    given = []

    def spy(encoder, texts, **settings):
        given.append((list(texts), settings))
        return 0.0

    monkeypatch.setattr(finetuning, "calibrate_head", spy)
    monkeypatch.setattr(finetuning, "PRIOR_TEXTS", 12)
    finetune(finetune_recipe(home, tmp_path / "out", steps=1))
    ((texts, settings),) = given
    assert len(texts) == 12
    assert settings == {"prior": 0.5, "active_terms": 20, "max_length": 40}
