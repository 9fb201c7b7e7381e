"""The page of all tools' help, and progress where there is no terminal."""

import sys
from pathlib import Path

import pytest

from tests.commands import status_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools/dev"))


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse of other Pythons lays its help out otherwise")
def test_the_page_is_what_the_tools_print():
    import command_line_page

    assert command_line_page.page() == command_line_page.PAGE.read_text()


def test_every_command_and_tool_is_on_the_page():
    import command_line_page

    page = command_line_page.PAGE.read_text()
    assert set(command_line_page.TOOLS) == {path.stem for path in (ROOT / "tools").glob("[a-z]*.py")}
    assert {tool.split()[0] for tool in command_line_page.DEVELOPMENT} <= {
        p.stem for p in (ROOT / "tools/dev").glob("*.py")
    }
    for command in [*command_line_page.commands(), *command_line_page.TOOLS.values()]:
        assert f"## {command}" in page


@pytest.mark.parametrize("tool", sorted(path.stem for path in (ROOT / "tools").glob("[a-z]*.py")))
def test_a_tool_is_the_command_in_a_line_or_two(tool):
    import command_line_page

    program, command = command_line_page.TOOLS[tool].split()
    lines = (ROOT / "tools" / f"{tool}.py").read_text().splitlines()
    assert f"from {program}.cli.main import main" in lines
    assert lines[-2:] == ['if __name__ == "__main__":', f'    main(["{command}", *sys.argv[1:]])']


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 0, "usage: anomaly COMMAND"),
        (("--help",), 0, "export-scores"),
        (("--version",), 0, "anomaly 0."),
        (("evaluat",), 2, "unknown command 'evaluat'"),
        (("evaluate", "--flop"), 2, "unrecognized arguments: --flop; did you mean --flip?"),
    ],
)
def test_the_commands_own_words(words, status, said, capfd):
    assert status_of("anomaly", *words) == status
    out, err = capfd.readouterr()
    assert said in out + err
    assert "Traceback" not in err


def test_an_old_option_name_works_with_a_note(tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    words = ("look", str(tmp_path / "empty"), "--network", "a.py", "b.pth", "--out", str(tmp_path / "x.html"))
    assert status_of("anomaly", *words) == 2
    err = capfd.readouterr().err
    assert "note: --network is now called --model" in err
    assert "empty: expected files that end in" in err  # and the option was taken


def test_progress_is_lines_where_there_is_no_terminal(capfd, monkeypatch):
    from anomaly.cli import progress as progress_module

    clock = iter(range(0, 10_000, 7))  # seven seconds a frame
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    with progress_module.frame_progress() as progress:
        bar = progress.add_task("road_anomaly", total=10)
        for _ in range(10):
            progress.advance(bar)
        progress.advance(bar, 0)
    out, err = capfd.readouterr()
    lines = err.splitlines()
    assert not out
    assert [line.partition(",")[0] for line in lines] == [
        "road_anomaly: 4 of 10 (40 %)",
        "road_anomaly: 7 of 10 (70 %)",
        "road_anomaly: 10 of 10 (100 %)",
    ]
    assert not any("\x1b" in line or "\r" in line for line in lines)


def test_progress_of_unknown_length(capfd, monkeypatch):
    from anomaly.cli import progress as progress_module

    monkeypatch.setattr(progress_module, "SECONDS", 0.0)
    with progress_module.download_progress() as progress:
        bar = progress.add_task("set.zip", total=None)
        progress.update(bar, completed=5, total=None)
        progress.update(bar, completed=8, total=8)
        progress.update(bar, completed=8)
    assert [line.partition(",")[0] for line in capfd.readouterr().err.splitlines()] == [
        "set.zip: 5",
        "set.zip: 8 of 8 (100 %)",
    ]
