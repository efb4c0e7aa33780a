"""Writes a golden file of the published model in any size, for the program `golden`.

    python write_golden.py B=9 S=4 R=3 P=64 dim=64 genes=20 GOLDEN.safetensors [REFERENCE.safetensors]

With a reference of the same sizes, checks that both hold the same tensors.
"""

import sys

import torch
from safetensors.torch import load_file, save_file

from golden_formula import inputs, signed, weight
from released_model import Released, correlation_loss, hybrid_loss

settings = [word.split("=") for word in sys.argv[1:] if "=" in word]
sizes = {key: int(value) for key, value in settings}
out, *reference = [word for word in sys.argv[1:] if "=" not in word]

model = Released(sizes["dim"], sizes["genes"]).eval()
state = model.state_dict()
for name, tensor in state.items():
    if not name.endswith("num_batches_tracked"):
        tensor.copy_(weight(name, tuple(tensor.shape)))
given = inputs(sizes)
stages = model.trace(*given)

parent_spot, parent_region = given[3:5]
rows = {"bin": sizes["B"], "spot": sizes["S"], "region": sizes["R"]}
labels = {level: signed(f"label.{level}", (count, sizes["genes"])).abs().float() for level, count in rows.items()}
predicted = {level: stages[f"out_{level}"] for level in rows}
loss = hybrid_loss(list(predicted.values()), list(labels.values()), parent_spot, parent_region)
loss.backward()

tensors = {name: tensor.detach().contiguous() for name, tensor in stages.items()}
error = predicted["bin"] - labels["bin"]
scalars = {"loss": loss, "mse": error.square().mean(), "mae": error.abs().mean()}
scalars["pcc"] = 1 - correlation_loss(predicted["bin"], labels["bin"])
tensors |= {name: value.detach().reshape(1) for name, value in scalars.items()}
# What the state dict holds and no forward pass reads has no gradient; what is read without effect has one of 0.
never_read = ("lstm_512.", "gene_head_512.", "gene_head_224.", "transformer.encoder_layer.")
for name, parameter in model.named_parameters():
    if not name.startswith(never_read):
        gradient = torch.zeros(1) if parameter.grad is None else parameter.grad
        tensors[f"grad_l2.{name}"] = gradient.double().norm().float().reshape(1)
save_file(tensors, out, metadata={key: str(value) for key, value in sizes.items()})
print(f"{out}: {len(tensors)} tensors")

for path in reference:
    expected = load_file(path)
    assert expected.keys() == tensors.keys(), expected.keys() ^ tensors.keys()
    for name, tensor in expected.items():
        apart = (tensor - tensors[name]).abs().max().item()
        # Gradients of what has no effect are rounding.
        assert apart <= 1e-4 * max(tensor.abs().max().item(), 1e-2), f"{name}: {apart}"
    print(f"{path}: the same tensors")
