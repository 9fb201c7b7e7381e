import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from gmmseg.classifier import GMMClassifier
from gmmseg.functional.collectives import all_max, all_sum, gather_equal, gather_rows, num_processes, process_rank
from gmmseg.settings import MixtureSettings
from gmmseg.training.training_state import mean_gradients
from tests.processes import leave, start

STEPS, SETTINGS = 12, {"num_components": 3, "embed_dim": 8, "memory_size": 24, "max_samples": 5, "em_interval": 2}


def test_one_process_is_the_identity():
    rows = torch.randn(3, 2)
    assert (num_processes(), process_rank()) == (1, 0)
    assert gather_rows(rows) is all_sum(rows) is all_max(rows) is rows
    assert torch.equal(gather_equal(rows), rows[None])


def _batch(step, rank):
    """Other classes on each process; the second lacks some, and now and then has no labelled pixel at all."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    labels = torch.randint(0, 4 - rank, (2, 9, 7), generator=generator)
    labels[:, : step % 3] = 255
    if rank and step % 4 == 3:
        labels[:] = 255
    centers = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, 9, 7, 8, generator=generator)
    return (centers[labels.clamp(max=3)] + noise).permute(0, 3, 1, 2).contiguous(), labels


def _train(batches, average_gradient, blocks):
    """SGD on a projection before the classifier, whose every state is recorded."""
    torch.manual_seed(0)
    projection = torch.nn.Conv2d(8, 8, 1)
    classifier = GMMClassifier(4, MixtureSettings(**SETTINGS, contrast_weight=1.0, memory_blocks=blocks))
    states, losses = [], []
    for features, labels in batches:
        loss = classifier.learn(classifier(projection(features)), labels)
        parameters = [*projection.parameters(), *classifier.embed_norm.parameters()]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            with torch.no_grad():
                parameter -= 0.05 * average_gradient(gradient)
        losses.append(average_gradient(loss.detach()))
        states.append({k: v.clone() for k, v in classifier.state_dict().items()} | {"w": projection.weight.clone()})
    return states, losses


BLOCKS = (24, 8)


def _process(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    trained = {
        str(blocks): _train((_batch(step, rank) for step in range(STEPS)), lambda g: all_sum(g) / 2, blocks)
        for blocks in BLOCKS
    }
    layer = torch.nn.Linear(2, 1)
    layer.weight.grad = torch.tensor([[float(rank), 4.0]])
    gradients = mean_gradients(layer)
    gathered = gather_rows(torch.full((rank, 2), float(rank)))
    torch.save({"trained": trained, "gathered": gathered, "gradients": gradients}, f"{folder}/{rank}.pth")
    leave()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What two processes that trained together wrote."""
    folder = tmp_path_factory.mktemp("processes")
    start(_process, folder, count=2)
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
def test_what_two_processes_gather(processes):
    assert processes[0]["gathered"].tolist() == [[1.0, 1.0]]
    for process in processes:
        assert {key: value.tolist() for key, value in process["gradients"].items()} == {"weight": [[0.5, 4.0]]}


@pytest.mark.parametrize("blocks", BLOCKS)
def test_two_processes_equal_each_other_and_one_with_the_global_batch(processes, blocks):
    (first, first_losses), (second, _) = (process["trained"][str(blocks)] for process in processes)

    def global_batch(step):
        (features, labels), (more, more_labels) = _batch(step, 0), _batch(step, 1)
        return torch.cat([features, more]), torch.cat([labels, more_labels])

    states, losses = _train((global_batch(step) for step in range(STEPS)), lambda g: g, blocks)
    for step in range(STEPS):
        for key, one in states[step].items():
            two = first[step][key]
            assert torch.equal(two, second[step][key]), (step, key)
            assert torch.allclose(one, two, rtol=1e-5, atol=1e-5), (step, key)
            if one.dtype == torch.long:
                assert torch.equal(one, two), (step, key)
        assert torch.allclose(losses[step], first_losses[step], rtol=1e-5)
    memory = states[-1]["em.memory.pushed"]
    assert memory.max() > SETTINGS["memory_size"]  # rings were overwritten on the way
    assert not F.cosine_similarity(states[0]["mixture.means"], states[-1]["mixture.means"], dim=-1).allclose(
        torch.ones(())
    )
