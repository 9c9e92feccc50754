"""`dupmae derive-lookup`: a table of term weights, for queries without the network."""

from __future__ import annotations

from typing import Annotated

import typer

from dupmae_cli import console
from dupmae_cli.options import DeviceOption, JsonOption


def derive_lookup(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="The encoder: builtin, a folder or a hub id."),
    ],
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Make a table of term weights for `dupmae search --query-encoder lookup`.

    Each token of the vocabulary gets the weight that the network gives it in a
    query of this token alone. The table is written beside the model's weights, as
    lookup.safetensors, and replaces an earlier one. No texts are needed.

    [bold]Examples:[/bold]

      dupmae derive-lookup builtin

      dupmae derive-lookup my-model --json
    """
    from dupmae_toolkit.model.lookup_derivation import derive_lookup as derive

    made = derive(model, device=device, progress=console.bar)
    if json:
        console.print_json(
            {
                "table": str(made.path),
                "tokens": made.tokens,
                "without_weight": made.without,
                "mean_weight": made.mean,
            }
        )
        return
    console.say(
        f"wrote {made.path}: {made.tokens:,} tokens, {made.without:,} of them without a weight; "
        f"mean weight {made.mean:.3g}"
    )
