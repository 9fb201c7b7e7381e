"""A training that is stopped and resumed gives what an uninterrupted one gives, bit for bit."""

import logging
import os
import time

import pytest
import torch
from mmengine.registry import init_default_scope

from anomaly.errors import InputError
from gmmseg.checkpoints.files import newest_checkpoint
from tests.gmmseg.tiny_training import StopAt, assert_same, config, logged_losses, saved, train, write_images

TRAINED = ("state_dict", "optimizer", "param_schedulers")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_images(folder)
    return folder


def validation(root):
    dataset = config(root, "unused").train_dataloader.dataset
    dataset.pipeline = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, {"type": "PackSegInputs"}]
    loader = {"batch_size": 1, "num_workers": 0, "sampler": {"type": "DefaultSampler"}, "dataset": dataset}
    return {
        "val_dataloader": loader,
        "val_cfg": {"type": "ValLoop"},
        "val_evaluator": {"type": "IoUMetric"},
        "train_cfg.val_interval": 1,
        "default_hooks.checkpoint.save_best": "mIoU",
    }


VARIANTS = {
    "one worker": {"train_dataloader.num_workers": 1},
    "finite sampler": {"train_dataloader.sampler.type": "DefaultSampler", "train_dataloader.drop_last": True},
    "accumulated gradients": {"optim_wrapper.accumulative_counts": 3},
    "averaged weights": {"custom_hooks": [{"type": "EMAHook", "momentum": 0.3}]},
    "averaged buffers": {"custom_hooks": [{"type": "EMAHook", "momentum": 0.3, "update_buffers": True}]},
}


@pytest.mark.parametrize(
    "variant",
    ["one worker", *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS if name != "one worker")],
)
def test_resumed_training_is_that_without_a_stop(root, tmp_path, monkeypatch, variant):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # mmengine waits at the end of a finite sampler
    options = VARIANTS[variant]
    whole = train(root, tmp_path / "whole", 6, **options)
    with pytest.raises(KeyboardInterrupt):
        train(root, tmp_path / "parts", 6, StopAt(5), **options)
    train(root, tmp_path / "parts", 6, resume=True, **options)
    assert whole.iter == 6
    expected, resumed = saved(tmp_path / "whole", 6), saved(tmp_path / "parts", 6)
    for part in (*TRAINED, "gradients", "ema_state_dict"):
        assert_same(expected.get(part), resumed.get(part))
    losses = logged_losses(tmp_path / "whole")
    assert losses.keys() == set(range(1, 7))
    assert losses == logged_losses(tmp_path / "parts")


@pytest.mark.slow
def test_neither_validation_nor_workers_change_the_training(root, tmp_path):
    train(root, tmp_path / "plain")
    workers = {"train_dataloader.num_workers": 2, "train_dataloader.persistent_workers": True}
    train(root, tmp_path / "validated", **validation(root), **workers)
    plain, validated = saved(tmp_path / "plain", 4), saved(tmp_path / "validated", 4)
    assert_same([plain[part] for part in TRAINED], [validated[part] for part in TRAINED])


@pytest.mark.slow
def test_processes_together_draw_the_samples_of_one(root, tmp_path, monkeypatch):
    import gmmseg.training.random_stream as stream
    from gmmseg.training import SafeRunner

    def places(rank, processes, skipped=0):
        for module in (stream, sampler_module):
            monkeypatch.setattr(module, "get_dist_info", lambda: (rank, processes))
        loader = SafeRunner.build_dataloader(stream.in_reproducible_stream(loader_config, 0), seed=0)
        if skipped:
            loader.sampler.skip(skipped)
        return [(int(index), index.place) for index, _ in zip(loader.sampler, range(8 - skipped), strict=False)]

    import mmengine.dataset.sampler as sampler_module

    init_default_scope("mmseg")
    loader_config = config(root, tmp_path).train_dataloader
    one = places(0, 1)
    assert [place for _, place in one] == [(0, i) for i in range(8)]
    first, second = places(0, 2), places(1, 2)
    assert [*first[:4], *second[:4]] == [*one[0::2], *one[1::2]]
    assert places(1, 2, skipped=3) == second[3:]


def test_augmentation_differs_from_sample_to_sample(root, tmp_path):
    runner = train(root, tmp_path / "run", 1)
    dataset = runner.train_dataloader.dataset
    from gmmseg.training.random_stream import DrawnIndex

    def image(*place):
        index = DrawnIndex(3)
        index.place = place
        return dataset[index]["inputs"]

    assert torch.equal(image(0, 5), image(0, 5))
    assert not torch.equal(image(0, 5), image(0, 6))
    assert not torch.equal(image(0, 5), image(1, 5))


@pytest.mark.slow
def test_falls_back_to_the_checkpoint_before_a_truncated_one(root, tmp_path, caplog):
    train(root, tmp_path / "whole", 6)
    work_dir = tmp_path / "run"
    train(root, work_dir, 4)
    newest = work_dir / "iter_4.pth"
    os.truncate(newest, newest.stat().st_size // 2)
    runner = train(root, work_dir, 6, resume=True)
    log = "".join(path.read_text() for path in work_dir.glob("*/*.log"))
    assert f"checkpoint {newest} cannot be read" in log
    assert f"Load checkpoint from {work_dir / 'iter_2.pth'}" in log
    assert runner.iter == 6
    expected, resumed = saved(tmp_path / "whole", 6), saved(work_dir, 6)
    assert_same([expected[part] for part in TRAINED], [resumed[part] for part in TRAINED])


@pytest.mark.slow
def test_no_readable_checkpoint_is_an_error_and_none_at_all_a_start(root, tmp_path):
    work_dir = tmp_path / "run"
    assert train(root, work_dir, 2, resume="newest").iter == 2
    os.truncate(work_dir / "iter_2.pth", 100)
    with pytest.raises(InputError, match=r"no checkpoint in .*run can be resumed: .*iter_2.pth cannot be read"):
        train(root, work_dir, 4, resume="newest")
    with pytest.raises(InputError, match=r"iter_2.pth cannot be read"):
        train(root, work_dir, 4, resume=True, load_from=str(work_dir / "iter_2.pth"))


def test_newest_is_what_mmengine_named_last_then_by_age(tmp_path):
    state = {"state_dict": {}, "optimizer": {}, "meta": {"epoch": 0, "iter": 1}}
    for age, name in enumerate(("iter_1.pth", "iter_3.pth", "iter_2.pth", "best_mIoU_iter_9.pth")):
        torch.save(state, tmp_path / name)
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    logger = logging.getLogger()
    assert newest_checkpoint(tmp_path, logger)[0].name == "iter_2.pth"
    (tmp_path / "last_checkpoint").write_text("/where/it/was/before/iter_3.pth")
    assert newest_checkpoint(tmp_path, logger)[0].name == "iter_3.pth"
    (tmp_path / "last_checkpoint").write_text("")
    assert newest_checkpoint(tmp_path, logger)[0].name == "iter_2.pth"


def test_copied_work_dir_goes_on_from_its_own_checkpoint(tmp_path):
    state = {"state_dict": {}, "optimizer": {}, "meta": {"epoch": 0, "iter": 1}}
    for folder, names in (("run", ("iter_1", "iter_2")), ("copy", ("iter_1", "iter_2")), ("elsewhere", ())):
        (tmp_path / folder).mkdir()
        for name in names:
            torch.save(state, tmp_path / folder / f"{name}.pth")
        (tmp_path / folder / "last_checkpoint").write_text(str(tmp_path / "run" / "iter_2.pth"))
    logger = logging.getLogger()
    assert newest_checkpoint(tmp_path / "copy", logger)[0] == tmp_path / "copy" / "iter_2.pth"
    os.truncate(tmp_path / "copy" / "iter_2.pth", 100)
    assert newest_checkpoint(tmp_path / "copy", logger)[0] == tmp_path / "copy" / "iter_1.pth"
    assert newest_checkpoint(tmp_path / "elsewhere", logger)[0] == tmp_path / "run" / "iter_2.pth"  # an out_dir


@pytest.mark.slow
def test_nothing_left_to_train_is_said(root, tmp_path):
    train(root, tmp_path, 2)
    before = (tmp_path / "iter_2.pth").read_bytes()
    train(root, tmp_path, 2, resume="newest")
    assert "at step 2 of 2; nothing is left to train" in "".join(p.read_text() for p in tmp_path.glob("*/*.log"))
    assert (tmp_path / "iter_2.pth").read_bytes() == before


@pytest.mark.slow
def test_resuming_without_a_memory_starts_with_an_empty_one(root, tmp_path):
    train(root, tmp_path, 2, **{"default_hooks.checkpoint.save_memory": False})
    assert not [key for key in saved(tmp_path, 2)["state_dict"] if ".em.memory." in key]
    runner = train(root, tmp_path, 2, resume="newest")
    assert "saved without the memory of the mixtures" in "".join(p.read_text() for p in tmp_path.glob("*/*.log"))
    assert runner.model.decode_head.classifier.em.step == 2
    assert runner.model.decode_head.classifier.em.memory.pushed.sum() == 0


@pytest.mark.slow
def test_a_seed_that_changed_is_that_of_the_checkpoint(root, tmp_path):
    train(root, tmp_path / "whole", 4)
    train(root, tmp_path / "run", 2)
    train(root, tmp_path / "run", 4, resume="newest", **{"randomness.seed": 99})
    assert_same(saved(tmp_path / "whole", 4)["state_dict"], saved(tmp_path / "run", 4)["state_dict"])
