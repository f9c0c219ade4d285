"""The catalogue: what it lists without PyTorch, and what it says to names it does not know."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.errors import TrainwattError
from workloads import catalog
from workloads.catalog import build, cards

ROOT = Path(catalog.__file__).parents[1]


def test_listing_the_networks_does_not_import_torch() -> None:
    code = (
        "import sys, workloads.catalog as c; assert len(c.cards()) > 30; "
        "assert not [m for m in sys.modules if m == 'torch' or m.startswith('workloads.networks.')]"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_cards_read_from_the_source_are_those_registered_on_import() -> None:
    for card in cards().values():
        importlib.import_module(card.module)
    assert catalog.registered() == cards()


def test_cards_are_plain_facts_about_networks_with_these_names() -> None:
    assert {"lenet5", "resnet18", "resnet110-cifar", "squeezenet1.1", "upernet-resnet18"} < set(cards())
    card = cards()["resnet18"]
    assert (card.module, card.builder, card.arguments) == (
        "workloads.networks.resnet",
        "resnet",
        {"depth": 18},
    )
    assert (card.input_shape, card.classes, card.task) == ((3, 224, 224), 1000, "classification")
    assert hash(card) == hash(cards()["resnet18"])


def test_the_caller_may_change_what_cards_returns() -> None:
    cards().clear()
    assert cards()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("@network('a', parameters=N)\ndef a(): ...", "line 1"),
        ("@network('a', classes=1)\ndef a(): ...", "parameters"),
        ("@network('b', input_shape=(1,), classes=1, parameters=1, macs=1, source='')\ndef b(): ...", "'b'"),
    ],
)
def test_a_card_that_cannot_be_read_is_reported_with_its_place(
    text: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(catalog, "_FOLDER", tmp_path)
    catalog._all_cards.cache_clear()
    try:
        with pytest.raises(TrainwattError, match=problem):
            cards()
    finally:
        catalog._all_cards.cache_clear()


def test_an_unknown_network_is_answered_with_a_similar_name() -> None:
    with pytest.raises(TrainwattError, match=r"no network 'resnet81'; did you mean .*'resnet18'"):
        build("resnet81")


def test_an_unknown_network_like_no_other_is_answered_with_where_to_look() -> None:
    with pytest.raises(TrainwattError, match=r"no network 'qqq'; see 'trainwatt list networks'"):
        build("qqq")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", {"classes": 0}),
        ("resnet18", {"dept": 34}),
        ("resnet18", {"depth": 33}),
        ("vgg11", {"depth": 12}),
        ("squeezenet1.0", {"version": "1.2"}),
        ("resnet20-cifar", {"depth": 21}),
        ("vit-tiny", {"size": 100}),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_one_line(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(TrainwattError) as caught:
        build(name, **arguments)
    assert "\n" not in str(caught.value)


def test_the_number_of_classes_sets_the_last_layer() -> None:
    assert build("resnet8-cifar", classes=100).fc.out_features == 100
