"""What DeepSpeed's universal checkpoints leave to be put right."""

import pytest
import torch

from arra_med.training.universal import _own_step_counters


@pytest.mark.parametrize(("fused", "device"), [(True, "meta"), (False, "cpu")])
def test_steps_are_counted_apart_and_where_the_optimizer_wants_them(
    fused: bool, device: str
) -> None:
    parameters = [torch.nn.Parameter(torch.ones(3, device="meta")) for _ in range(2)]
    optimizer = torch.optim.AdamW(parameters)
    optimizer.param_groups[0]["fused"] = fused  # not asked of a device that cannot, as "meta"
    loaded = torch.tensor(3.0)
    for parameter in parameters:
        optimizer.state[parameter] = {"step": loaded}
    _own_step_counters(optimizer)
    steps = [optimizer.state[parameter]["step"] for parameter in parameters]
    assert [step.device.type for step in steps] == [device, device]
    assert len({id(step) for step in [loaded, *steps]}) == 3
    if not fused:
        steps[0] += 1
        assert [float(loaded), *map(float, steps)] == [3, 4, 3]
