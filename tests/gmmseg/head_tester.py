"""What every generative head must do; `test_heads.py` inherits it once per head."""

import copy
import math

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from tests.gmmseg.networks import samples

MIXTURE = {"num_components": 2, "embed_dim": 16, "memory_size": 8}
BN = {"type": "BN"}
RESNET = {
    "type": "ResNetV1c",
    "depth": 18,
    "stem_channels": 8,
    "base_channels": 8,
    "num_stages": 4,
    "out_indices": (0, 1, 2, 3),
    "norm_cfg": BN,
}  # 8, 16, 32, 64 channels


class HeadTester:
    """Give ``head`` (without classes and mixture), and where it differs ``backbone`` and ``first`` of a cascade."""

    head: dict
    backbone: dict = RESNET
    first: dict | None = None

    def network(self, mixture=MIXTURE, num_classes=5, channels=24, **test_cfg):
        torch.manual_seed(0)
        init_default_scope("mmseg")
        common = {"channels": channels, "num_classes": num_classes, "norm_cfg": BN}
        head = {**common, **self.head, "mixture": mixture}
        cascade = self.first is not None
        return MODELS.build(
            {
                "type": "gmmseg.CascadeGMMSegmentor" if cascade else "gmmseg.GMMSegmentor",
                "backbone": self.backbone,
                "decode_head": [{**common, **self.first}, head] if cascade else head,
                "test_cfg": ConfigDict(test_cfg or {"mode": "whole"}),
                **({"num_stages": 2} if cascade else {}),
            }
        )

    def head_of(self, network):
        return network.decode_head if self.first is None else network.decode_head[-1]

    def learn(self, network, size=(64, 96), steps=1):
        for _ in range(steps):
            losses = network.train()(torch.randn(2, 3, *size), samples(2, *size), mode="loss")
        return losses

    @pytest.mark.parametrize("channels", [16, 24])
    def test_loss_and_backward(self, channels):
        network = self.network(channels=channels)
        head = self.head_of(network)
        assert any(True for _ in head.projection.parameters()) == (channels != MIXTURE["embed_dim"])
        losses = self.learn(network)
        assert sum("loss_contrast" in name for name in losses) == 1
        loss, _ = network.parse_losses(losses)
        loss.backward()
        without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
        assert without == []
        assert head.classifier.em.step == 1
        assert head.classifier.em.memory.count.sum() > 0

    @pytest.mark.parametrize("size", [(64, 96), (50, 70), (33, 65)])
    def test_prediction_has_the_size_of_any_input(self, size):
        with torch.no_grad():
            predicted = self.network().eval()(torch.randn(2, 3, *size), mode="predict")
        for sample in predicted:
            assert sample.seg_logits.data.shape == (5, *size)
            assert sample.class_log_likelihood.data.shape == (5, *size)
            assert sample.pred_sem_seg.data.shape == (1, *size)

    def test_eval_leaves_the_state_untouched(self):
        network = self.network()
        self.learn(network)
        before = copy.deepcopy(network.eval().state_dict())
        with torch.no_grad():
            network(torch.randn(1, 3, 64, 64), mode="predict")
            network(torch.randn(1, 3, 64, 64), mode="tensor")
        after = network.state_dict()
        assert all(torch.equal(before[key], after[key]) for key in before)

    def test_save_and_load(self, tmp_path):
        network, other = self.network(), self.network()
        self.learn(network, steps=2)
        torch.save(network.state_dict(), tmp_path / "state.pth")
        other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
        image = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            first, second = (net.eval()(image, mode="predict")[0] for net in (network, other))
        assert torch.equal(first.class_log_likelihood.data, second.class_log_likelihood.data)
        assert torch.equal(first.seg_logits.data, second.seg_logits.data)

    def test_densities_equal_a_naive_computation(self):
        network = self.network()
        self.learn(network, steps=2)
        classifier, outputs = self.head_of(network).classifier, []
        classifier.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        with torch.no_grad():
            sample = network.eval()(torch.randn(1, 3, 32, 64), mode="predict")[0]
        (output,) = outputs
        embeddings = output.embeddings.double()
        assert torch.allclose(embeddings.norm(dim=1), torch.ones(len(embeddings)).double(), atol=1e-5)
        means, stds = classifier.mixture.means.double(), classifier.mixture.stds.double()
        for c in range(5):
            for p in range(2):
                mean = means[c, p] / means[c, p].norm()
                z = (embeddings - mean) / stds[c, p]
                expected = -0.5 * z.square().sum(1) - stds[c, p].log().sum() - 8 * math.log(2 * math.pi)
                assert torch.allclose(output.log_prob[:, c, p].double(), expected, atol=1e-4)
        best = output.log_prob.amax(2).T.reshape(5, *output.logits.shape[2:])
        assert torch.equal(output.class_log_likelihood[0], best)
        resized = torch.nn.functional.interpolate(best[None], (32, 64), mode="bilinear", align_corners=False)
        assert torch.allclose(sample.class_log_likelihood.data, resized[0], atol=1e-4)

    def test_slide_of_one_window_equals_whole(self):
        network = self.network().eval()
        image = torch.randn(1, 3, 64, 96)
        whole = network(image, mode="predict")[0]
        network.test_cfg = ConfigDict(mode="slide", crop_size=(64, 96), stride=(32, 48))
        slide = network(image, mode="predict")[0]
        assert torch.allclose(whole.seg_logits.data, slide.seg_logits.data, atol=1e-5)
        assert torch.allclose(whole.class_log_likelihood.data, slide.class_log_likelihood.data, atol=1e-4)

    @pytest.mark.parametrize("labelled", ["nothing", "one pixel", "one image", "one class"])
    def test_batches_with_few_labels(self, labelled):
        """All-ignore crops, an image without a label and a class of one pixel train without a NaN."""
        network = self.network().train()
        batch = samples(2, 64, 64)
        for index, sample in enumerate(batch):
            label = sample.gt_sem_seg.data
            if labelled == "one class":
                label.fill_(3)
            elif labelled != "one image" or index == 0:
                label.fill_(255)
            if labelled == "one pixel" and index == 0:
                label[0, 32:64, 32:64] = 4  # a single pixel at the stride of the coarsest head
        loss, _ = network.parse_losses(network(torch.randn(2, 3, 64, 64), batch, mode="loss"))
        loss.backward()
        assert loss.isfinite()
        assert all(value.isfinite().all() for value in network.state_dict().values())
        assert all(p.grad.isfinite().all() for p in network.parameters())
        present = self.head_of(network).classifier.em.memory.count.view(5, 2).sum(1) > 0
        allowed = {"nothing": [], "one pixel": [4], "one image": range(5), "one class": [3]}[labelled]
        assert set(present.nonzero().flatten().tolist()) <= set(allowed)
