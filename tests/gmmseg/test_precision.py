"""Mixed precision, accumulated gradients and averaged weights: training works, and the mixture's state is right."""

import pytest
import torch
from mmengine.hooks import Hook

from tests.gmmseg.tiny_training import assert_same, saved, train, write_images

CLASSIFIER = "decode_head.classifier."


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_images(folder)
    return folder


def classifier_state(model):
    return {key: value for key, value in model.state_dict().items() if key.startswith(CLASSIFIER)}


class Watch(Hook):
    """Notes the types in which layers compute, and the parameters after every step."""

    def __init__(self):
        self.types, self.parameters = {}, []

    def before_train(self, runner):
        for name in ("backbone.layers.0.0.projection", "decode_head.classifier"):
            runner.model.get_submodule(name).register_forward_hook(self._note(name))

    def _note(self, name):
        def note(module, inputs, output):
            values = vars(output).values() if hasattr(output, "logits") else [output]
            self.types[name] = {value.dtype for value in values}

        return note

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.parameters.append({name: value.detach().clone() for name, value in runner.model.named_parameters()})


@pytest.mark.slow
def test_mixed_precision_on_a_cpu(root, tmp_path):
    watch = Watch()
    options = {"optim_wrapper.type": "gmmseg.CPUAmpOptimWrapper"}
    runner = train(root, tmp_path / "amp", 4, watch, **options)
    assert watch.types["backbone.layers.0.0.projection"] == {torch.bfloat16}
    assert watch.types["decode_head.classifier"] == {torch.float32}
    plain = classifier_state(train(root, tmp_path / "plain", 4).model)
    state = classifier_state(runner.model)
    assert {k: v.dtype for k, v in state.items()} == {k: v.dtype for k, v in plain.items()}
    assert state[CLASSIFIER + "em.step"] == 4
    assert state[CLASSIFIER + "em.memory.pushed"].sum() > 0
    assert all(value.isfinite().all() for value in state.values())
    assert not torch.equal(state[CLASSIFIER + "embed_norm.weight"], plain[CLASSIFIER + "embed_norm.weight"])


@pytest.mark.slow
def test_every_pass_of_accumulated_gradients_is_a_step_of_em(root, tmp_path):
    frozen = {"optim_wrapper.optimizer.lr": 0.0, "optim_wrapper.optimizer.weight_decay": 0.0}
    plain = train(root, tmp_path / "plain", 4, **frozen).model
    accumulated = train(root, tmp_path / "accumulated", 4, **frozen, **{"optim_wrapper.accumulative_counts": 4}).model
    assert_same(plain.state_dict(), accumulated.state_dict())
    assert plain.decode_head.classifier.em.step == 4
    assert plain.decode_head.classifier.em.memory.pushed.sum() > 0


@pytest.mark.slow
def test_weights_change_only_when_gradients_are_complete(root, tmp_path):
    watch = Watch()
    train(root, tmp_path, 4, watch, **{"optim_wrapper.accumulative_counts": 2})
    first, second, third, fourth = watch.parameters
    assert_same(second, third)
    for before, after in ((first, second), (third, fourth)):
        assert not torch.equal(
            before["decode_head.fusion_conv.conv.weight"], after["decode_head.fusion_conv.conv.weight"]
        )


@pytest.mark.slow
@pytest.mark.parametrize("update_buffers", [False, True])
def test_averaged_weights_with_the_live_memory(root, tmp_path, update_buffers):
    watch, momentum = Watch(), 0.3
    hook = {"type": "EMAHook", "momentum": momentum, "update_buffers": update_buffers}
    runner = train(root, tmp_path / "average", 4, watch, custom_hooks=[hook])
    plain = train(root, tmp_path / "plain", 4).model
    assert_same(plain.state_dict(), runner.model.state_dict())  # averaging only looks on

    average = watch.parameters[0]
    for parameters in watch.parameters[1:]:
        average = {name: (1 - momentum) * average[name] + momentum * value for name, value in parameters.items()}
    copy = next(hook for hook in runner.hooks if hasattr(hook, "ema_model")).ema_model.module
    for name, parameter in copy.named_parameters():
        torch.testing.assert_close(parameter, average[name], rtol=1e-5, atol=1e-6)

    live = plain.decode_head.classifier
    assert copy.decode_head.classifier.em is runner.model.decode_head.classifier.em  # no second memory
    assert_same(live.em.state_dict(), copy.decode_head.classifier.em.state_dict())
    same = torch.equal(live.mixture.means, copy.decode_head.classifier.mixture.means)
    assert same is not update_buffers

    stored = saved(tmp_path / "average", 4)["state_dict"]
    for name, value in average.items():
        torch.testing.assert_close(stored[name], value, rtol=1e-5, atol=1e-6)
    for name, value in live.em.state_dict().items():
        assert torch.equal(stored[f"{CLASSIFIER}em.{name}"], value)
