"""The published model and its loss in PyTorch, under the released code's tensor names."""

import torch
import torch.nn.functional as F
from torch import nn


class Bottleneck(nn.Module):
    def __init__(self, channels, inner, stride, first):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner)
        if first:
            projection = nn.Conv2d(channels, 4 * inner, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(4 * inner))
        else:
            self.downsample = nn.Identity()

    def forward(self, x):
        hidden = F.relu(self.bn1(self.conv1(x)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        return F.relu(self.bn3(self.conv3(hidden)) + self.downsample(x))


class ResNet50(nn.Module):
    """Narrower than the published one with a `base` below 64."""

    def __init__(self, width, base=64):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, base, 7, 2, 3, bias=False), nn.BatchNorm2d(base)
        channels = base
        for stage, blocks in enumerate([3, 4, 6, 3]):
            inner, layers = base << stage, []
            for block in range(blocks):
                stride = 2 if block == 0 and stage > 0 else 1
                layers.append(Bottleneck(channels, inner, stride, block == 0))
                channels = 4 * inner
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, width)

    def forward(self, x):
        return self.fc(self.pooled(x))

    def pooled(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))


class SingleKeyAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        for part in ["query", "key", "value", "out"]:
            setattr(self, f"{part}_proj", nn.Linear(width, width))

    def forward(self, parents):
        return self.out_proj(self.value_proj(parents))


class GraphLayer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, width))
        self.att_weight = nn.Parameter(torch.zeros(width, 1))

    def forward(self, nodes, adjacency):
        mean = adjacency @ nodes / adjacency.sum(1, keepdim=True).clamp(min=1)
        return F.normalize(F.relu(mean @ self.weight.T), dim=1)


class DepthTransformer(nn.Module):
    def __init__(self, width, layers):
        super().__init__()
        self.positional_encoding = nn.Parameter(torch.zeros(layers, width))
        self.encoder_layer = nn.TransformerEncoderLayer(width, 8, 4 * width, 0.0, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(self.encoder_layer, layers, enable_nested_tensor=False)

    def forward(self, stacked):
        depth, nodes, width = stacked.shape
        tokens = stacked.reshape(nodes, depth, width) + self.positional_encoding
        return self.transformer_encoder(tokens).mean(1)


class Released(nn.Module):
    def __init__(self, width, genes, layers=3, base=64):
        super().__init__()
        self.encoder = ResNet50(width, base)
        self.cross_attention_512 = SingleKeyAttention(width)
        self.cross_attention_224 = SingleKeyAttention(width)
        for level in ["112", "512", "224"]:
            layers_of_level = nn.ModuleList([GraphLayer(width) for _ in range(layers)])
            setattr(self, f"gat_layer_{level}", layers_of_level)
        self.transformer = DepthTransformer(width, layers)
        self.lstm_512 = nn.ModuleList([nn.LSTM(width, width, 2, batch_first=True)])
        for head in ["250", "512", "224"]:
            setattr(self, f"gene_head_{head}", nn.Sequential(nn.LayerNorm(width), nn.Linear(width, genes)))

    def trace(self, bins, spots, regions, parent_spot, parent_region, adjacency):
        """Every stage by its name in a golden file. `adjacency`: dense matrices of bins, spots and regions."""
        encoded = self.encoder(bins)
        from_region = self.cross_attention_512(regions[parent_region])
        from_spot = self.cross_attention_224(spots[parent_spot])
        mixed = encoded + from_region + from_spot
        stages = {"encoder": encoded, "cross_attention_region": from_region, "cross_attention_spot": from_spot}
        levels = {
            "bin": (mixed, self.gat_layer_112),
            "spot": (spots, self.gat_layer_224),
            "region": (regions, self.gat_layer_512),
        }
        for (level, (nodes, layers)), edges in zip(levels.items(), adjacency):
            stacked = torch.stack([layer(nodes, edges) for layer in layers])
            if level == "bin":
                stages["graph_bin_0"], stages["graph_bin_2"] = stacked[0], stacked[2]
            stages[f"depth_{level}"] = self.transformer(stacked)
            stages[f"out_{level}"] = self.gene_head_250(stages[f"depth_{level}"])
        return stages

    def forward(self, *inputs):
        """The predictions of bins, spots and regions; inputs as for `trace`."""
        stages = self.trace(*inputs)
        return [stages[f"out_{level}"] for level in ["bin", "spot", "region"]]


def correlation_loss(a, b):
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return 1 - ((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1) + 1e-8).sqrt()).mean()


def hybrid_loss(predicted, labels, parent_spot, parent_region):
    """The released loss; predictions and labels of bins, spots and regions."""
    bins, spots, regions = (correlation_loss(a, b) for a, b in zip(predicted, labels))
    consistency = correlation_loss(labels[0], predicted[1][parent_spot])
    consistency = consistency + correlation_loss(labels[0], predicted[2][parent_region])
    return 0.75 * F.mse_loss(predicted[0], labels[0]) + 0.10 * bins + 0.05 * (spots + regions) + 0.05 * consistency
