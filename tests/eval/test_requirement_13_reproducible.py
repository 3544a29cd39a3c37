"""Requirement 13: two runs give equal bytes, without a network and without global side effects."""

import random
import socket
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.mark.usefixtures("no_network", "generated")
def test_two_runs_are_byte_identical_and_fit_the_same_judge(run, tmp_path):
    """Each starts from nothing and fits its own judge."""
    first = run("first", weights=tmp_path / "judge-1")
    second = run("second", weights=tmp_path / "judge-2")
    names = sorted(str(p.relative_to(first)) for p in first.rglob("*") if p.is_file())
    assert names == sorted(str(p.relative_to(second)) for p in second.rglob("*") if p.is_file())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)
    assert str(tmp_path) not in (first / "results.json").read_text(encoding="utf-8")


@pytest.mark.usefixtures("generated")
def test_nothing_global_is_left_changed(run, tmp_path, monkeypatch):
    """Neither random states nor settings of torch nor a file outside the run's folders."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(scratch)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002 - the global state is what is watched
    torch.manual_seed(3)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    settings = (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())
    cudnn = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    run(weights=tmp_path / "fresh")
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert before == after
    assert settings == (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())
    assert cudnn == (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    assert list(Path(scratch).rglob("*")) == []
