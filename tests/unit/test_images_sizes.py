# SPDX-License-Identifier: GPL-3.0-or-later
"""What images take up, alone and together; and how they came to be, whatever a config says of that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from minipod.images.bounds import BadImage
from minipod.images.documents import to_json
from minipod.images.history import Step, history
from minipod.images.layout import Layout
from minipod.images.sizes import Footprint, LayerSizes, Share, shares, total

LAYERS = {"base": 100, "x": 10, "y": 1}
IMAGES = {
    "a": Footprint({"m1": 5, "bb": 50}, ("base", "x")),
    "b": Footprint({"m2": 5, "bb": 50}, ("base", "y")),
    "c": Footprint({"m3": 5}, ("unmeasured",)),
}


def test_shares() -> None:
    found = shares(IMAGES, LAYERS)
    assert found == {"a": Share(165, 150), "b": Share(156, 150), "c": Share(5, 0)}
    assert [share.unique for share in found.values()] == [15, 6, 5]
    assert total(IMAGES, LAYERS) == 50 + 100 + 10 + 1 + 15
    assert total({}, LAYERS) == 0


def test_sizes_are_remembered(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path / "store"))
    layout.create()
    sizes = LayerSizes(layout)
    assert sizes.get() == {}
    sizes.learn({"a": 1, "b": 2}, frozenset("ab"))
    assert LayerSizes(layout).get() == {"a": 1, "b": 2}
    sizes.learn({"c": 3}, frozenset("bc"))
    assert LayerSizes(layout).get() == {"b": 2, "c": 3}
    assert os.listdir(layout.tmp) == []


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b"\xff", b'{"a":-1,"b":"x","c":1.5}', b"[" * 99999]
)
def test_what_is_remembered_may_be_lost(tmp_path: Path, text: bytes) -> None:
    layout = Layout(str(tmp_path / "store"))
    layout.create()
    Path(layout.root, "sizes.json").write_bytes(text)
    assert LayerSizes(layout).get() == {}


def told(*entries: Any) -> bytes:
    return to_json({"history": list(entries)})


def test_history() -> None:
    steps = history(
        told(
            {"created": "t", "created_by": "ADD", "comment": "c"},
            {"created_by": "ENV", "empty_layer": True},
            {"created_by": "RUN"},
        ),
        ["one", "two"],
    )
    assert steps == [Step("", "RUN", "", "two"), Step("", "ENV"), Step("t", "ADD", "c", "one")]


@pytest.mark.parametrize("entries", [(), (None, 3, "x"), ({"empty_layer": True},)])
def test_layers_without_history(entries: Any) -> None:
    assert [step.layer for step in history(told(*entries), ["one", "two"]) if step.layer] == [
        "two",
        "one",
    ]


def test_history_of_anything() -> None:
    assert history(told({"created": 3, "created_by": ["x"], "comment": None}), []) == [Step()]
    assert history(to_json({"history": {"a": 1}}), []) == []
    assert history(b"[]", ["x"]) == [Step(layer="x")]
    assert len(history(told(*[{}] * 10_000), [])) == 4096
    with pytest.raises(BadImage):
        history(b"{", [])
