import copy

import pytest
import torch

from gmmseg.errors import InputError
from tests.gmmseg.networks import MIXTURE, samples, segformer


@pytest.mark.parametrize("channels", [16, 24])
def test_loss_and_backward(channels):
    torch.manual_seed(0)
    network = segformer(channels=channels).train()
    has_projection = any(key.startswith("decode_head.projection.") for key in network.state_dict())
    assert has_projection == (channels != MIXTURE["embed_dim"])
    losses = network(torch.randn(2, 3, 64, 96), samples(2, 64, 96), mode="loss")
    assert set(losses) == {"decode.loss_ce", "decode.acc_seg", "decode.loss_contrast"}
    (losses["decode.loss_ce"] + losses["decode.loss_contrast"]).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []
    assert network.decode_head.classifier.em.step == 1
    assert network.decode_head.classifier.em.memory.count.sum() > 0


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (33, 65)])
def test_prediction_has_the_size_of_the_input(size):
    network = segformer().eval()
    with torch.no_grad():
        predicted = network(torch.randn(2, 3, *size), mode="predict")
    assert [s.seg_logits.data.shape for s in predicted] == [(5, *size)] * 2
    assert [s.class_log_likelihood.data.shape for s in predicted] == [(5, *size)] * 2


def test_eval_leaves_the_state_untouched():
    network = segformer().eval()
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        network(torch.randn(1, 3, 64, 64), mode="predict")
        network(torch.randn(1, 3, 64, 64), mode="tensor")
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_slide_of_one_window_equals_whole():
    torch.manual_seed(0)
    network = segformer().eval()
    image = torch.randn(1, 3, 64, 96)
    whole = network(image, mode="predict")[0]
    network.test_cfg.update(mode="slide", crop_size=(64, 96), stride=(32, 48))
    slide = network(image, mode="predict")[0]
    assert torch.allclose(whole.seg_logits.data, slide.seg_logits.data, atol=1e-5)
    assert torch.allclose(whole.class_log_likelihood.data, slide.class_log_likelihood.data, atol=1e-4)


def test_sliding_windows_average_both_maps():
    torch.manual_seed(0)
    network = segformer(mode="slide", crop_size=(64, 64), stride=(64, 32)).eval()
    image = torch.randn(1, 3, 64, 96)
    slide = network(image, mode="predict")[0]
    network.test_cfg = type(network.test_cfg)(mode="whole")
    with torch.no_grad():
        left, right = (network(image[..., at : at + 64], mode="predict")[0] for at in (0, 32))
    for name in ("seg_logits", "class_log_likelihood"):
        first, second = left.get(name).data, right.get(name).data
        expected = (first[..., 32:] + second[..., :32]) / 2
        assert torch.allclose(slide.get(name).data[..., 32:64], expected, atol=1e-4)
        assert torch.allclose(slide.get(name).data[..., :32], first[..., :32], atol=1e-4)


def test_prediction_is_the_largest_likelihood_of_each_pixel():
    """With the fresh LayerNorm over classes, logits and likelihoods rank the classes alike."""
    network = segformer().eval()
    with torch.no_grad():
        output = network.decode_head.classify(network.extract_feat(torch.randn(1, 3, 64, 64)))
    assert torch.equal(output.logits.argmax(1), output.class_log_likelihood.argmax(1))


def test_save_and_load(tmp_path):
    network, other = segformer().train(), segformer()
    network(torch.randn(2, 3, 64, 64), samples(2, 64, 64), mode="loss")
    torch.save(network.state_dict(), tmp_path / "state.pth")
    other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    image = torch.randn(1, 3, 64, 64)
    first, second = (net.eval()(image, mode="predict")[0] for net in (network, other))
    assert torch.equal(first.class_log_likelihood.data, second.class_log_likelihood.data)


def test_unknown_mixture_key_is_an_error():
    with pytest.raises(InputError, match="unknown mixture setting 'num_prototype'"):
        segformer(mixture={"num_prototype": 3})
