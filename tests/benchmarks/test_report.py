"""The page and its plots from a small file of results, and the check that they are up to date."""

import json

import pytest
import report

PAGE = "# Title\n\nProse.\n\n{}\n\nMore prose.\n"


def block(name, content=""):
    return f"<!-- begin: generated {name} -->\n{content}<!-- end -->"


@pytest.fixture
def place(tmp_path, small):
    """A page with all parts and the results it is made from."""
    page, results = tmp_path / "performance.md", tmp_path / "cpu.json"
    page.write_text(PAGE.format("\n\nbetween\n\n".join(block(name) for name in report.PARTS)))
    results.write_text(json.dumps(small))
    return page, results


def command(place, *options):
    page, results = place
    return report.main([*options, "--page", str(page), "--results", str(results)])


def test_ratios_beside_their_targets(small):
    found = report.targets(small)
    assert "| clustered-10k | torchvision | 3.00× (≥ 2) ✓ | 1.00× (≥ 1.5) ✗ missed | failed (≥ 1) ✗ missed |" in found
    assert "| iou-2000x2000 | pycocotools | 13.0× (≥ 2) ✓ | – | – |" in found
    assert "n^1.00 (≤ 1.2) ✓" in found
    assert "0.86 GB (< 1.5) ✓" in found


def test_times_of_a_group(small):
    header, _, row = report.PARTS["scenes"](small).splitlines()
    assert header == "| scene | boxes | kept | anyops, NumPy | anyops, torch CPU | anyops, JAX | torchvision | OpenCV |"
    assert row == (
        "| clustered-10k | 10,000 | 1,107 | 10.4 ms (3.00×) | 31.2 ms (1.00×) | failed | 31.2 ms | 6.00 s [2 runs] |"
    )


def test_group_that_was_not_measured(small):
    assert report.PARTS["adversarial"](small) == "Not measured."


def test_disagreement_is_told(small):
    found = report.agreement(small)
    assert "| clustered-10k | OpenCV | 1,107 | 1,108 | 1,106 |" in found
    assert "- OpenCV: computes in float64." in found


def test_setup_names_what_was_run(small):
    found = report.setup(small)
    assert "Some CPU, 2 cores (0.02 used by other programs meanwhile)" in found
    assert "commit `0123456789ab` with uncommitted changes" in found
    assert "Threads: torch 2, opencv 2." in found
    assert "jax" not in found
    assert "partial" not in found
    assert report.setup({**small, "partial": True}).startswith("**A partial run.**")


def test_page_names_what_was_measured_later(small):
    assert report.later(small) == "None."
    git = {"commit": "f" * 40, "dirty": False}
    small["updates"] = [{"date": "2026-11-30T09:00:00+00:00", "git": git, "what": ["clustered-10k", "counts"]}]
    assert report.later(small) == "- 2026-11-30, commit `ffffffffffff`: clustered-10k, counts."


def test_times_beside_a_busy_process(small):
    case = small["cases"][0]
    case.update(name="clustered-10k, busy", group="busy")
    for record in case["results"].values():
        if "seconds" in record:
            record["quiet"] = record["seconds"] / 2
    header, _, row = report.busy(small).splitlines()
    assert header.startswith("| scene | boxes | anyops, NumPy | anyops, torch CPU | anyops, JAX | torchvision |")
    assert row.startswith("| clustered-10k, busy | 10,000 | 5.20 ms, busy 10.4 ms (2.00 times) |")
    assert "| failed |" in row


def test_counts_of_what_ran(small):
    assert report.counts(small) == "Not measured."
    small["counts"] = [
        {"op": "nms", "calls": {"anyops numpy": 1_052, "anyops jax": 116}},
        {"op": "nms_mask", "calls": {"anyops torch": 80}, "operations": 330, "waits": 16},
    ]
    assert report.counts(small).splitlines()[2:] == [
        "| `nms` | 1,052 | – | 116 | – | – |",
        "| `nms_mask` | – | 80 | – | 330 | 16 |",
    ]


def test_fill_keeps_the_prose_and_can_be_repeated(small):
    page = PAGE.format(block("targets", "old\n"))
    filled = report.fill(page, small)
    assert filled.startswith("# Title\n\nProse.\n\n<!-- begin: generated targets -->\n")
    assert filled.endswith("<!-- end -->\n\nMore prose.\n")
    assert "old" not in filled
    assert report.fill(filled, small) == filled


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (block("nonsense"), "unknown generated part 'nonsense'"),
        ("<!-- begin: generated targets -->\n", "no `<!-- end -->`"),
    ],
)
def test_broken_markers(small, broken, complaint):
    with pytest.raises(SystemExit, match=complaint):
        report.fill(PAGE.format(broken), small)


def test_every_marker_of_the_real_page_is_known(small):
    page = report.PAGE.read_text()
    report.fill(page, small)
    assert {found[1] for found in report.BLOCK.findall(page)} == set(report.PARTS)


def test_check_before_and_after(place, capsys):
    pytest.importorskip("matplotlib")
    assert command(place, "--check") == 1
    assert "performance.md is not up to date" in capsys.readouterr().out
    assert not (place[0].parent / "images").exists()
    assert command(place) == 0
    assert command(place, "--check") == 0


def test_new_numbers_make_page_and_plot_stale(place, small, capsys):
    pytest.importorskip("matplotlib")
    command(place)
    small["curves"]["aerial"]["anyops numpy"]["seconds"][-1] = 2.0
    place[1].write_text(json.dumps(small))
    capsys.readouterr()
    assert command(place, "--check") == 1
    told = capsys.readouterr().out
    assert "performance.md" in told
    assert "performance-aerial.png" in told


def test_prose_does_not_make_the_page_stale(place):
    pytest.importorskip("matplotlib")
    command(place)
    page = place[0]
    page.write_text(page.read_text().replace("More prose.", "Other prose."))
    assert command(place, "--check") == 0
    page.write_text(page.read_text().replace("3.00×", "4.00×"))
    assert command(place, "--check") == 1


def test_lost_plot_is_stale(place):
    pytest.importorskip("matplotlib")
    command(place)
    plot = place[0].parent / "images" / "performance-aerial.png"
    assert plot.read_bytes().startswith(b"\x89PNG")
    plot.unlink()
    assert command(place, "--check") == 1
