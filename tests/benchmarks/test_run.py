"""Checking, timing and judging, with simple contenders."""

import json
import os
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import ops
import pytest
import run
import scenes
from cases import (
    BATCH_NORM_GRAD,
    BATCHED_NMS,
    BOX_IOU,
    CASES,
    FOCAL,
    IMAGES,
    IMAGES_MASK,
    IMAGES_MASK_JIT,
    LOGISTIC_LOSS,
    MASK_IOU,
    NMS,
    NMS_MASK,
    OPS,
    PADDED,
    PADDED_JIT,
    Case,
    growth,
    matches,
    select,
)
from contenders import CONTENDERS, Contender, answer, kept, reference_order
from memory import peak_in_fresh_process, status
from results import load, save
from text import duration, number
from timing import Entrant, busy_neighbour, measure

import anyops

CASE = Case("three", "scenes", NMS, 3, lambda: scenes.clustered(3, 2), {"anyops numpy": 1e-9, "anyops torch": 1e9})


# Public functions that are not the name of an operation.
ELSEWHERE = {
    "sigmoid_focal_loss": "focal",
    "sigmoid_focal_loss_and_grad": "focal, train, on NumPy",
    "softmax_focal_loss_and_grad": "softmax_focal_loss train, on NumPy",
    "anchor_boxes": "no peer",
    "top_scores": "a sort",
    "batch_stats": "part of batch_norm",
    "merge_batch_stats": "an addition",
    "kmeans_partial": "part of kmeans_step",
    "kmeans_merge": "an addition",
    "logistic_log_proba": "part of logistic_predict_proba",
    "logistic_partial": "part of logistic_regression",
    "logistic_step": "part of logistic_regression",
    "logistic_merge": "an addition",
}


def contender(name, answer, *, ours=False, operation=NMS):
    def prepare(problem):
        if isinstance(answer, Exception):
            raise answer
        return lambda: answer

    return Contender(name, {operation: prepare}, 100, ours=ours)


def test_case_is_checked_timed_and_judged():
    pytest.importorskip("torch", reason="operations of torch are counted")
    answer = np.array([2, 0])
    result = run.run_case(
        CASE,
        [
            contender("torchvision", answer),
            contender("anyops numpy", answer, ours=True),
            contender("anyops torch", answer, ours=True),
            contender("opencv", np.array([2, 1])),
        ],
        budget=0.001,
    )
    assert result["reference"] == result["peer"] == "torchvision"
    assert result["kept"] == 2
    records = result["results"]
    assert records["anyops numpy"]["identical"]
    assert records["anyops numpy"]["met"]
    assert not records["anyops torch"]["met"]
    assert records["anyops torch"]["ratio"] == records["torchvision"]["seconds"] / records["anyops torch"]["seconds"]
    # A peer with other conventions is still timed, and the boxes it shares are counted.
    assert records["opencv"]["common"] == 1
    assert not records["opencv"]["identical"]
    assert records["opencv"]["repetitions"] >= 3


def test_ours_is_not_timed_where_it_differs():
    result = run.run_case(
        CASE,
        [contender("torchvision", np.array([2, 0])), contender("anyops numpy", np.array([0, 2]), ours=True)],
        budget=0.001,
    )
    record = result["results"]["anyops numpy"]
    assert record["failed"] == "differs from torchvision"
    assert "seconds" not in record
    assert not record["met"]


def test_one_that_fails_does_not_cost_the_others_their_numbers(capsys):
    error = ImportError(f"no such thing in {run.ROOT}/benchmarks\nand more")
    result = run.run_case(
        CASE, [contender("torchvision", error), contender("anyops numpy", np.array([0]), ours=True)], budget=0.001
    )
    assert result["results"]["torchvision"]["failed"] == "ImportError: no such thing in ./benchmarks"
    assert result["reference"] == "anyops numpy"
    assert result["results"]["anyops numpy"]["seconds"] > 0
    assert "Traceback" in capsys.readouterr().err


def test_box_iou_is_measured_against_the_faster_peer():
    case = Case("iou", "box_iou", BOX_IOU, 2, lambda: scenes.pair(1, 2), {"anyops numpy": 1.0})
    iou = np.array([[0.5, 0.25]])
    result = run.run_case(
        case,
        [
            contender("torchvision", iou, operation=BOX_IOU),
            contender("anyops numpy", iou + 1e-7, ours=True, operation=BOX_IOU),
            contender("anyops torch", iou * np.nan, ours=True, operation=BOX_IOU),
            contender("pycocotools", iou, operation=BOX_IOU),
        ],
        budget=0.001,
    )
    times = {name: record.get("seconds") for name, record in result["results"].items()}
    assert times[result["peer"]] == min(times["torchvision"], times["pycocotools"])
    assert result["results"]["anyops numpy"]["identical"]
    assert result["results"]["anyops torch"]["failed"]


def test_each_of_ours_has_its_own_peer():
    case = Case(
        "loss",
        "losses",
        FOCAL,
        2,
        lambda: scenes.logits(2),
        {"anyops numpy": 1e-9},
        {"anyops numpy": "exp, log1p", "anyops jax": "optax"},
    )
    loss = np.float32([0.5, 0.25])
    result = run.run_case(
        case,
        [
            contender("torchvision", loss, operation=FOCAL),
            contender("anyops numpy", loss + 1e-7, ours=True, operation=FOCAL),
            contender("anyops torch", loss + 1, ours=True, operation=FOCAL),
            contender("anyops jax", loss, ours=True, operation=FOCAL),
            replace(contender("exp, log1p", loss * 9, operation=FOCAL), compared=False),
        ],
        budget=0.001,
    )
    records = result["results"]
    ours, least = records["anyops numpy"], records["exp, log1p"]
    assert result["peer"] == "exp, log1p, optax"
    assert ours["ratio"] == least["seconds"] / ours["seconds"]
    assert ours["met"]
    assert "identical" not in least
    assert records["anyops torch"]["failed"]
    assert "ratio" not in records["anyops jax"]  # its peer was not run
    run.print_case(result)


def test_the_peer_on_a_busy_machine_is_the_quiet_time(monkeypatch):
    pytest.importorskip("torch", reason="operations of torch are counted")
    sides = []

    @contextmanager
    def neighbour():
        sides.append("busy")
        yield
        sides.append("quiet again")

    def measured(entrants, budget):
        for entrant in entrants:
            entrant.samples += [0.5] * 3 if sides[-1:] == ["busy"] else [0.25] * 3

    monkeypatch.setattr(run, "busy_neighbour", neighbour)
    monkeypatch.setattr(run, "measure", measured)
    answer = np.array([2, 0])
    result = run.run_case(
        replace(CASE, busy=True, targets={"anyops numpy": 0.4, "anyops torch": 0.6}),
        [contender(name, answer, ours="any" in name) for name in ("torchvision", "anyops numpy", "anyops torch")],
        budget=0.001,
    )
    assert sides == ["busy", "quiet again"]
    assert result["peer"] == "itself, quiet"
    numpy, torch, peer = (result["results"][name] for name in ("anyops numpy", "anyops torch", "torchvision"))
    assert (numpy["quiet"], numpy["seconds"], numpy["ratio"], numpy["met"]) == (0.25, 0.5, 0.5, True)
    assert numpy["repetitions"] == 3
    assert not torch["met"]
    assert peer["quiet"] == 0.25
    assert "ratio" not in peer


def test_neighbour_uses_a_core_and_goes():
    before = os.times()
    with busy_neighbour():
        time.sleep(0.5)
    after = os.times()
    # Its process is waited for, so its time counts as ours, not as time of other programs.
    assert after.children_user + after.children_system - before.children_user - before.children_system > 0.1


def test_effort_is_recorded_of_ours_alone():
    many = [contender(name, np.array([2, 0]), ours="any" in name) for name in ("torchvision", "anyops numpy")]
    records = run.run_case(CASE, many, budget=0.0)["results"]
    assert records["anyops numpy"]["calls"] == 1
    assert "operations" not in records["anyops numpy"]
    assert "calls" not in records["torchvision"]


def test_operations_of_torch_are_recorded_where_n_is_small():
    torch = pytest.importorskip("torch")
    x = torch.arange(3)
    checked = run.Checked(
        contender("anyops torch", None, ours=True), Entrant(lambda: (x + 1).sum().item()), [np.empty(0)], {}
    )
    assert run.effort(checked, CASE) == {"calls": 1, "operations": 3, "waits": 1}
    assert run.effort(checked, replace(CASE, n=run.LARGEST_COUNTED + 1)) == {"calls": 1}


def test_each_call_gets_the_next_problem():
    def prepare(scene):
        return lambda: scene.scores[:1]

    case = Case("", "", BOX_IOU, 3, lambda seed=0: scenes.clustered(3, 2, seed=seed), seeds=3)
    problems = case.problems()
    assert len({problem.scores[0] for problem in problems}) == 3
    checked = run.ask(Contender("ours", {BOX_IOU: prepare}, 100, ours=True), case, problems, {})
    assert [found.tolist() for found in checked.answers] == [problem.scores[:1].tolist() for problem in problems]
    got = [checked.entrant.call()[0] for _ in range(4)]
    assert got == [problem.scores[0] for problem in [*problems, problems[0]]]


def test_a_wrong_answer_to_any_problem_is_seen():
    case = Case("", "", NMS, 3, lambda seed=0: scenes.clustered(3, 2, seed=seed), seeds=3)
    right = [np.array([0]), np.array([1]), np.array([2])]
    reference = run.Checked(contender("torchvision", None), Entrant(lambda: None), right, {})
    for one in range(3):
        wrong = [found + (one == i) for i, found in enumerate(right)]
        each = run.Checked(contender("anyops numpy", None, ours=True), Entrant(lambda: None), wrong, {})
        assert not run.agrees(each, reference, case)
    assert run.agrees(reference, reference, case)


@pytest.mark.parametrize("operation", [NMS_MASK, IMAGES_MASK, IMAGES_MASK_JIT, PADDED, PADDED_JIT])
def test_static_forms_keep_what_nms_keeps(operation):
    problem = scenes.padded(200, 10) if "padded" in operation else scenes.clustered(100, 10)
    if "images" in operation:
        problem = scenes.images(2, 50)
    case = Case("", "", operation, 100, lambda: problem)
    kept_by = []
    for each in CONTENDERS:
        if each.ours and operation in each.operations:
            pytest.importorskip(each.name.removeprefix("anyops "))
            kept_by.append(answer(each.operations[operation](problem)(), case, problem).tolist())
    boxes, scores, *rest = problem
    labels = problem.labels if "images" in operation else None
    valid = rest[0] if "padded" in operation else np.ones(len(scores), bool)
    want = np.flatnonzero(valid)[anyops.nms(boxes[valid], scores[valid], labels=labels)]
    assert kept_by
    assert all(found == sorted(want.tolist()) for found in kept_by)
    if "jit" in operation:
        assert len(kept_by) == 1


def test_answers_are_brought_into_one_order():
    scene = scenes.Scene(np.zeros((4, 4), np.float32), np.float32([0.1, 0.9, 0.5, 0.5]), np.array([0, 0, 1, 1]))
    images = Case("", "", IMAGES, 4, lambda: scene)
    assert kept([np.array([1, 0]), np.array([0])], images, scene).tolist() == [1, 0, 2]
    assert kept(np.array([1, 2, 0]), images, scene).tolist() == [1, 0, 2]
    assert kept(np.array([True, False, True, True]), images, scene).tolist() == [0, 2, 3]
    batched = Case("", "", BATCHED_NMS, 4, lambda: scene)
    assert reference_order(np.array([1, 3, 2, 0]), batched, scene).tolist() == [1, 2, 3, 0]
    assert reference_order(np.array([1, 3, 2]), CASE, scene).tolist() == [1, 3, 2]


def test_every_op_has_a_case_or_a_reason():
    measured = {case.operation.split()[0] for case in CASES}
    assert measured.isdisjoint(ELSEWHERE)
    assert set(anyops.support()) - measured == set(ELSEWHERE)


def test_every_op_has_ours_and_a_peer():
    for case in (case for case in CASES if case.group in OPS):
        names = {each.name for each in CONTENDERS if each.takes(case, slow=True)}
        assert "anyops torch" in names
        assert not all(name.startswith("anyops") for name in names)
        assert set(case.against.values()) <= names


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        (MASK_IOU, scenes.masks(10, 20, 30)),
        (LOGISTIC_LOSS, scenes.linear(50, 3, 2)),
        (BATCH_NORM_GRAD, scenes.backward(4, 3, 5, 2)),
    ],
)
def test_formulas_say_what_ours_say(operation, problem):
    taking_part = [each for each in CONTENDERS if each.name in ("anyops numpy", "numpy formula")]
    result = run.run_case(Case("", "", operation, 1, lambda: problem), taking_part, budget=0.0)
    assert result["reference"] == "numpy formula"
    assert result["results"]["anyops numpy"]["identical"]


def test_what_is_returned_goes_back_to_its_rows():
    scene = scenes.clustered(4, 2)
    found = ops.in_place(scene, (np.float32([[1, 2], [3, 4]]), np.float32([5, 6]), np.array([2, 0])))
    assert found.tolist() == [[3, 4, 6], [0, 0, 0], [1, 2, 5], [0, 0, 0]]


def test_any_of_equally_near_centres_will_do():
    problem = scenes.Mixture(np.float32([[0], [3]]), np.float32([[-1], [1], [3]]))
    assert ops.distances(problem, np.array([0, 2])).tolist() == [1, 0]
    assert ops.distances(problem, np.array([1, 2])).tolist() == [1, 0]


def test_share_of_the_sampling_time(tmp_path, monkeypatch):
    budgets = []

    def measured(entrants, budget):
        budgets.append(budget)
        measure(entrants, 0.0)

    monkeypatch.setattr(run, "measure", measured)
    options = ["--contenders", "anyops numpy", "--budget", "2", "--output", str(tmp_path / "results.json")]
    for name in ("clustered-100", "masks_to_boxes"):
        run.main(["--only", name, *options])
    assert budgets == [2, 0.5]


def test_growth_is_the_slope_of_logarithms():
    found = growth([10, 100, 1_000], [1.0, 10.0, 1_000.0])
    assert found["exponent"] == pytest.approx(1.5)
    assert found["steepest"] == pytest.approx(2.0)


def test_curve_of_the_target_sizes_is_judged():
    def result(n, seconds):
        return {"n": n, "curve": "aerial", "results": {"anyops numpy": {"seconds": seconds}, "anyops jax": {}}}

    found = run.curves([result(1_000_000, 1.5), result(10_000, 0.01), result(1_000, 0.005)])
    points = found["aerial"]["anyops numpy"]
    assert points["sizes"] == [1_000, 10_000, 1_000_000]
    assert points["exponent"] == pytest.approx(1.088, abs=1e-3)
    assert points["met"]
    assert "anyops jax" not in found["aerial"]


def test_turns_and_samples():
    calls = []
    first, second = Entrant(lambda: calls.append("a")), Entrant(lambda: calls.append("b"))
    measure([first, second], budget=0.0)
    assert len(first.samples) >= 3
    assert "".join(calls).replace("aa", "a")[:2] == "ab"
    summary = first.summary()
    assert 0 < summary["least"] <= summary["low"] <= summary["seconds"] <= summary["high"]


def test_very_slow_calls_are_made_twice():
    calls = []
    slow = Entrant(lambda: calls.append(1), first=6.0)
    measure([slow], budget=0.0)
    assert slow.samples[0] == 6.0
    assert len(slow.samples) == 2
    assert len(calls) == 1


def test_selection():
    assert matches("clustered-1k", "clus*")
    assert matches("clustered-1k", "1k")
    assert not matches("clustered-1k", "aerial")
    assert {case.name for case in select("aerial*", quick=True)} == {"aerial-1k", "aerial-3k", "aerial-10k"}
    assert len(select()) > len(select(quick=True)) > 5


def test_selection_of_groups():
    assert {case.group for case in select(groups={"busy", "mask"})} == {"busy", "mask"}
    assert [case.name for case in select("*-1k*", groups={"mask"})] == ["nms_mask clustered-1k"]


def test_slow_peers_stay_away_from_large_scenes():
    supervision = next(each for each in CONTENDERS if each.name == "supervision")
    small, middle = select("clustered-1k")[0], select("clustered-10k")[0]
    assert supervision.takes(small, slow=False)
    assert not supervision.takes(middle, slow=False)
    assert supervision.takes(middle, slow=True)


def test_command_from_end_to_end(tmp_path, capsys):
    output = tmp_path / "new" / "results.json"
    options = ["--only", "clustered-200", "--contenders", "anyops numpy", "--budget", "0.01", "--output", str(output)]
    assert run.main(options) == 0
    data = load(output)
    assert data["partial"]
    assert data["cases"][0]["kept"] == 45  # as torchvision
    assert data["memory"] == []
    assert [path.name for path in output.parent.iterdir()] == ["results.json"]
    text = output.read_text()
    assert str(run.ROOT) not in text
    printed = capsys.readouterr().out
    assert "clustered-200" in printed
    assert "targets missed" in printed


def test_some_groups_are_measured_again(tmp_path, monkeypatch):
    output = tmp_path / "results.json"
    kept, again, gone = (
        {"name": name, "group": "scenes", "n": n, "curve": "crowd", "results": {"anyops numpy": {"seconds": 1.0}}}
        for name, n in (("clustered-10k", 10_000), ("crowd-30k", 30_000), ("no more", 5))
    )
    earlier = [{"date": "before", "what": ["crowd-30k", "clustered-10k"]}, {"date": "before", "what": ["crowd-30k"]}]
    old = {"schema": 1, "partial": False, **run.environment(), "memory": ["old"], "updates": earlier}
    old["versions"]["anyops"] = "an older one"
    save(output, {**old, "cases": [gone, again, kept], "counts": ["old"], "curves": {}})
    monkeypatch.setattr(run, "counts", list)
    monkeypatch.setattr(
        run, "run_case", lambda case, *_: {**again, "results": {"anyops numpy": {"seconds": 9.0}}, "operation": NMS}
    )
    monkeypatch.setattr(run, "print_case", lambda result: None)
    assert run.main(["--only", "crowd-30k", "--groups", "scaling", "--update", "--output", str(output)]) == 0
    data = load(output)
    assert not data["partial"]
    assert [case["name"] for case in data["cases"]] == ["clustered-10k", "crowd-30k"]
    assert data["curves"]["crowd"]["anyops numpy"]["seconds"] == [1.0, 9.0]
    assert data["memory"] == data["counts"] == ["old"]
    assert [each["what"] for each in data["updates"]] == [["clustered-10k"], ["crowd-30k"]]
    assert data["updates"][1]["git"] == data["git"]


def test_only_like_is_put_beside_like(tmp_path):
    output = tmp_path / "results.json"
    old = {"schema": 1, **run.environment(), "cases": []}
    old["versions"]["numpy"] = "1.0"
    save(output, old)
    with pytest.raises(SystemExit, match=r"run everything: numpy: 1\.0 -> "):
        run.main(["--groups", "busy", "--update", "--output", str(output)])
    assert load(output) == old


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--update"], "--update needs --groups or --only"),
        (["--update", "--groups", "busy", "--quick"], "does not work with --quick or --contenders"),
        (["--groups", "busy,nonsense"], ", got nonsense"),
    ],
)
def test_options_that_do_not_go_together(options, complaint, capsys):
    with pytest.raises(SystemExit):
        run.main(options)
    assert complaint in capsys.readouterr().err


def test_no_such_case():
    with pytest.raises(SystemExit, match="no case matches 'nonsense'"):
        run.main(["--only", "nonsense"])


def test_results_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "results.json"
    save(path, {"schema": 1})
    with pytest.raises(TypeError):
        save(path, {"schema": 1, "bad": object()})
    assert load(path) == {"schema": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "complaint"), [("{", "not JSON"), ('{"schema": 0}', "schema 1"), ("[]", "schema 1")]
)
def test_unreadable_results(tmp_path, content, complaint):
    path = tmp_path / "results.json"
    with pytest.raises(SystemExit, match="writes it"):
        load(path)
    path.write_text(content)
    with pytest.raises(SystemExit, match=complaint):
        load(path)


@pytest.mark.skipif(not run.Path("/proc/self/status").exists(), reason="reads /proc, which only Linux has")
def test_memory_of_a_fresh_process():
    found = peak_in_fresh_process(2_000, "anyops numpy")
    assert found["n"] == 2_000
    assert found["peak"] == found["before"] + found["extra"]
    assert 0 < found["before"] < 2e9
    assert status("VmRSS") > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0009996, "1.00 ms"),
        (24.26, "24.3 s"),
        (0.0999, "99.9 ms"),
        (3.4e-5, "34.0 us"),
        (1234.0, "1230 s"),
        (0.0, "0 s"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_numbers():
    assert [number(value) for value in (0.456, 12.34, 1234.5)] == ["0.46", "12.3", "1,234"]


def test_work_of_others_is_not_ours():
    start, before = time.perf_counter(), run.seconds_of_others()
    if before is None:
        pytest.skip("reads /proc, which only Linux has")
    while time.perf_counter() - start < 0.2:
        sum(range(1_000))
    used = run.cores_used_by_others(start, before)
    assert 0 <= used <= os.cpu_count()
    assert run.cores_used_by_others(start, None) is None


def test_environment_is_json_without_names_of_this_machine():
    found = json.dumps(run.environment())
    assert str(run.ROOT) not in found
