"""The mixture monitor against counts kept by hand, in a real mmengine training of one step at a time."""

import json
import math

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from mmseg.models import SegDataPreProcessor
from torch.utils.data import DataLoader

from anomaly.errors import InputError
from gmmseg import em
from gmmseg.training import MixtureMonitorHook
from tests.gmmseg.networks import MIXTURE, samples, segformer

STEPS, CLASSES, COMPONENTS = 6, 5, MIXTURE["num_components"]


def _train(tmp_path, monitor, model, steps=STEPS, custom=(), hooks=None, **options):
    torch.manual_seed(0)
    data = [{"inputs": torch.randint(0, 255, (3, 32, 64)).float(), "data_samples": s} for s in samples(2, 32, 64)]
    data *= math.ceil(steps / len(data))  # mmengine waits two seconds where a loader ends
    model.data_preprocessor = SegDataPreProcessor(mean=[128] * 3, std=[64] * 3, size=(32, 64))
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(data, batch_size=1, collate_fn=pseudo_collate),
        train_cfg=ConfigDict(type="IterBasedTrainLoop", max_iters=steps),
        optim_wrapper=ConfigDict(optimizer={"type": "SGD", "lr": 0.01}),
        default_hooks={"logger": {"type": "LoggerHook", "interval": 2}, **(hooks or {})},
        custom_hooks=[monitor, *custom],
        log_processor={"by_epoch": False},
        default_scope="mmseg",
        randomness={"seed": 0},
        experiment_name=f"monitor{tmp_path}",
        log_level="WARNING",
        **options,
    )
    runner.train()
    return runner


@pytest.fixture
def seen(monkeypatch):
    """What every call of the E-step saw and gave."""
    calls, assign = [], em.EMUpdater.assign

    def record(self, log_prob, labels):
        groups = assign(self, log_prob, labels)
        calls.append((log_prob.numpy().copy(), labels.numpy().copy(), groups.numpy().copy()))
        return groups

    monkeypatch.setattr(em.EMUpdater, "assign", record)
    return calls


def _naive(calls, dead_share):
    """Shares, dead components and counts of some steps, by loops."""
    counts = np.zeros((CLASSES, COMPONENTS), int)
    for _, _, groups in calls:
        for group in groups:
            counts[group // COMPONENTS, group % COMPONENTS] += 1
    shares = [n / row.sum() for row in counts if row.sum() >= COMPONENTS / dead_share for n in row]
    return min(shares, default=math.nan), sum(share < dead_share for share in shares), counts


def _records(tmp_path):
    return [json.loads(line) for line in (tmp_path / "mixture.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("dead_share", [0.1, 0.45, 0.9])
def test_figures(tmp_path, seen, dead_share):
    torch.manual_seed(1)
    model = segformer()
    runner = _train(tmp_path, {"type": "gmmseg.MixtureMonitorHook", "window": 4, "dead_share": dead_share}, model)
    records = _records(tmp_path)
    assert [record["step"] for record in records] == [2, 4, 6]  # the LoggerHook's interval
    windows = [seen[0:2], seen[0:4], seen[2:6]]
    for record, calls in zip(records, windows, strict=True):
        share, dead, counts = _naive(calls, dead_share)
        assert record["share_min"] == pytest.approx(share)
        assert record["dead"] == dead
        assert record["assigned"] == counts.tolist()
        log_prob, _, _ = calls[-1]
        of_class = [max(pixel) for pixel in log_prob.astype(float)]
        assert record["log_likelihood"] == pytest.approx(np.mean(of_class), rel=1e-6)
    assert dead_share == 0.1 or any(record["dead"] for record in records)

    classifier = model.decode_head.classifier
    count, stds = classifier.em.memory.count.numpy(), classifier.mixture.stds.numpy()
    last = records[-1]
    assert (last["fill_min"], last["fill_mean"]) == (count.min() / 8, pytest.approx(count.mean() / 8))
    assert last["remembered"] == count.reshape(CLASSES, COMPONENTS).tolist()
    assert last["std_min"] == pytest.approx(stds.min())
    np.testing.assert_allclose(last["std"], stds.min(-1), atol=1e-6)

    logged = [json.loads(line) for line in next(tmp_path.glob("*/vis_data/2*.json")).read_text().splitlines()]
    for key in ("fill_min", "fill_mean", "share_min", "dead", "std_min", "log_likelihood"):
        assert [entry[f"mixture/{key}"] for entry in logged] == pytest.approx([record[key] for record in records])
    assert "assign" not in vars(classifier.em)  # the classifier is as it was
    assert runner.iter == STEPS


@pytest.mark.slow
def test_training_is_the_same_with_and_without(tmp_path):
    states = []
    for hook in ({"type": "gmmseg.MixtureMonitorHook", "interval": 1}, {"type": "IterTimerHook"}):
        torch.manual_seed(1)
        model = segformer()
        _train(tmp_path / hook["type"], hook, model)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())


@pytest.mark.slow
def test_starved_component_is_dead(tmp_path, monkeypatch):
    assign = em.sinkhorn_assign

    def starve(scores, classes, *settings):
        return torch.where(classes == 1, 0, assign(scores, classes, *settings))  # class 1 in its first component alone

    monkeypatch.setattr(em, "sinkhorn_assign", starve)
    _train(tmp_path, {"type": "gmmseg.MixtureMonitorHook", "dead_share": 0.1}, segformer())
    assert [(record["dead"], record["share_min"]) for record in _records(tmp_path)] == [(1, 0.0)] * 3


def test_two_generative_heads_beside_an_ema_copy(tmp_path):
    model = segformer()
    model.auxiliary_head = segformer().decode_head
    ema = {"type": "EMAHook", "momentum": 0.5}
    _train(tmp_path, {"type": "gmmseg.MixtureMonitorHook"}, model, steps=2, custom=[ema])
    names = {record["name"]: record for record in _records(tmp_path)}
    assert list(names) == ["mixture/decode_head", "mixture/auxiliary_head"]
    for name, record in names.items():
        em = model.get_submodule(name.removeprefix("mixture/")).classifier.em
        assert np.sum(record["remembered"]) == em.memory.count.sum() > 0


@pytest.mark.slow
def test_resumed_training_goes_on_with_the_file_and_a_new_one_does_not(tmp_path):
    for steps in (2, 4):
        checkpoint = {"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 2}}
        _train(tmp_path, {"type": "gmmseg.MixtureMonitorHook"}, segformer(), steps, hooks=checkpoint, resume=steps == 4)
    assert [record["step"] for record in _records(tmp_path)] == [2, 4]
    _train(tmp_path, {"type": "gmmseg.MixtureMonitorHook"}, segformer(), 2)
    assert [record["step"] for record in _records(tmp_path)] == [2]


@pytest.mark.slow
def test_softmax_network_is_left_alone_with_one_warning(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        runner = _train(tmp_path, {"type": "gmmseg.MixtureMonitorHook"}, segformer(mixture=None))
    assert not (tmp_path / "mixture.jsonl").exists()
    log = (tmp_path / runner.timestamp / f"{runner.timestamp}.log").read_text()
    assert log.count("the network has no mixture") == 1


def test_too_few_pixels_to_judge_is_nan(tmp_path):
    _train(tmp_path, {"type": "gmmseg.MixtureMonitorHook", "dead_share": 1e-6}, segformer(), 2)
    (record,) = _records(tmp_path)
    assert (record["share_min"], record["dead"]) == (None, 0)


@pytest.mark.parametrize("arguments", [{"interval": 0}, {"window": 0}, {"dead_share": 0.0}, {"dead_share": 1.0}])
def test_arguments_out_of_range(arguments):
    with pytest.raises(InputError, match="MixtureMonitorHook: expected"):
        MixtureMonitorHook(**arguments)
