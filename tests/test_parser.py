"""``tools/_parser.py``: what was typed is known, nothing of it is dropped, and numbers are numbers."""

from pathlib import Path

import pytest

from anomaly.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def parser(monkeypatch):
    """A command line with one argument of every kind that the tools have."""
    from anomaly.cli.parser import command_parser

    made = command_parser("A tool.")
    made.add_argument("config")
    made.add_argument("checkpoint", nargs="?")
    made.add_argument("--scores", nargs="+", default=[])
    made.add_argument("--score-scale", type=float, nargs=2)
    made.add_argument("--components-at")
    made.add_argument("--flip", action="store_true")
    made.add_argument("--report", action="store_const", const=True)
    made.add_argument("--bootstrap", nargs="?", type=int, const=2000, default=0)
    made.add_argument("--limit", type=int, default=3)
    return made


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["c"], {"config"}),
        (["c", "w"], {"config", "checkpoint"}),
        (["--flip", "c"], {"config", "flip"}),
        (["c", "--report", "--bootstrap"], {"config", "report", "bootstrap"}),
        (["c", "--limit", "3", "--scores", "msp", "energy"], {"config", "limit", "scores"}),
        (["c", "w", "--bootstrap", "0"], {"config", "bootstrap", "checkpoint"}),
        (["c", "--lim", "3"], {"config", "limit"}),
    ],
)
def test_what_was_typed_is_known(parser, words, given):
    assert parser.parse_args(words).given == given
    assert parser.parse_args(["c"]).given == {"config"}  # nothing is left of the parse before


def test_what_was_typed_is_known_of_a_subcommand(parser):
    from anomaly.cli.parser import command_parser

    outer = command_parser("Tools.")
    outer.add_argument("--quiet", action="store_true")
    commands = outer.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    check = commands.add_parser("check")
    check.add_argument("name")
    check.add_argument("--seed", type=int, default=0)
    assert outer.parse_args(["--quiet", "check", "n", "--seed", "-1"]).given == {"quiet", "command", "name", "seed"}
    assert outer.parse_args(["list"]).given == {"command"}
    with pytest.raises(InputError, match="--seed"):
        outer.parse_args(["check", "n", "--seed", "1", "--seed", "2"])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--scores", ["--scores", "msp", "--scores", "energy"]),
        ("--scores", ["--scores", "msp", "--flip", "--scores", "msp"]),
        ("--components-at", ["--comp", "1", "--components-at", "1"]),
        ("--flip", ["--flip", "--flip"]),
        ("--report", ["--report", "--report"]),
        ("--bootstrap", ["--bootstrap", "--bootstrap", "5"]),
        ("--limit", ["--limit", "3", "--limit=3"]),
    ],
)
def test_an_option_is_not_typed_twice(parser, option, words):
    with pytest.raises(InputError) as refused:
        parser.parse_args(["c", *words])
    assert option in str(refused.value)
    assert "\n" not in str(refused.value)


NEGATIVE = ["-5", "-5e-06", "-.5", "-5.", "-1e3", "-1.5E+3", "-1_000", "-inf", "-0"]


@pytest.mark.parametrize("number", NEGATIVE)
def test_negative_numbers_are_values_in_every_notation(parser, number):
    assert parser.parse_args(["c", "--components-at", number]).components_at == number
    scale = parser.parse_args(["c", "--score-scale", number, "1e3"]).score_scale
    assert scale == [float(number), 1000.0]
    assert parser.parse_args([number]).config == number


def test_a_word_that_is_no_number_stays_an_option(parser):
    for word in ("-x", "-5x", "--5", "-e5"):
        with pytest.raises(InputError, match="--components-at: expected one argument"):
            parser.parse_args(["c", "--components-at", word])
