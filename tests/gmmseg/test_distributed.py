import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from gmmseg.classifier import GMMClassifier
from gmmseg.distributed import gather_rows, num_processes
from gmmseg.settings import MixtureSettings


def test_one_process_is_the_identity():
    rows = torch.randn(3, 2)
    assert num_processes() == 1
    assert gather_rows(rows) is rows


def _learn(rank, store, folder):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(0)
    classifier = GMMClassifier(3, MixtureSettings(num_components=2, embed_dim=8, memory_size=10, max_samples=4))
    generator = torch.Generator().manual_seed(rank)
    for _ in range(6):
        labels = torch.randint(0, 3 - rank, (1, 5 + rank, 6), generator=generator)  # other sizes and classes per rank
        classifier.learn(classifier(torch.randn(1, 8, 5 + rank, 6, generator=generator)), labels)
    gathered = gather_rows(torch.full((rank, 2), float(rank)))
    torch.save({"state": classifier.state_dict(), "gathered": gathered}, f"{folder}/{rank}.pth")
    dist.destroy_process_group()


def test_every_process_ends_with_the_same_state(tmp_path):
    mp.spawn(_learn, args=(tmp_path / "store", tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1))
    assert first["gathered"].tolist() == [[1.0, 1.0]]
    for key, value in first["state"].items():
        assert torch.equal(value, second["state"][key]), key
    assert first["state"]["em.memory.count"].sum() > 0
