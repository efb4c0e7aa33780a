"""MagNet of Figure 2 in PyTorch: the modules and sizes of `core/src/model`, with its graph in one of two forms.

`dense`: every node scored against every other, and a mask; what code that holds a graph as a matrix does. `tables`:
the K neighbours of each node gathered, as MagNet itself does.
"""

import torch
import torch.nn.functional as F
from torch import nn

LEVELS = ["bin", "spot", "region"]
# Of the presets.
SIZES = {
    "paper": {"width": 1024, "genes": 250, "heads": 8, "hops": 3, "layers": 3, "feed_forward": 4},
    "demo": {"width": 64, "genes": 50, "heads": 4, "hops": 2, "layers": 1, "feed_forward": 2},
}


class CrossLevelAttention(nn.Module):
    """Each tile projected once; a mask keeps a bin to its parent tile and the parent's neighbours."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, bins, tiles, seen):
        def split(rows):
            return rows.reshape(1, len(rows), self.heads, -1).transpose(1, 2)

        query, key, value = split(self.query(bins)), split(self.key(tiles)), split(self.value(tiles))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return self.output(attended.transpose(1, 2).reshape(len(bins), -1))


class GraphAttentionLayer(nn.Module):
    """Veličković et al. 2018, with a residual."""

    def __init__(self, width, heads):
        super().__init__()
        self.message = nn.Linear(width, width, bias=False)
        self.score_node = nn.Parameter(torch.randn(heads, width // heads) / width**0.5)
        self.score_neighbor = nn.Parameter(torch.randn(heads, width // heads) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, nodes, graph):
        messages = self.message(nodes).reshape(len(nodes), *self.score_node.shape)  # [N,H,D/H]
        node, neighbor = (messages * self.score_node).sum(2), (messages * self.score_neighbor).sum(2)  # [N,H]
        if graph.dtype == torch.bool:  # [N,N]
            scores = F.leaky_relu(node.T[:, :, None] + neighbor.T[:, None, :], 0.2)  # [H,N,N]
            weights = scores.masked_fill(~graph, -1e9).softmax(2)
            mixed = (weights @ messages.transpose(0, 1)).transpose(0, 1)
        else:  # [N,1+K]
            weights = F.leaky_relu(node[:, None] + neighbor[graph], 0.2).softmax(1)  # [N,1+K,H]
            mixed = (messages[graph] * weights[..., None]).sum(1)
        return nodes + F.elu(mixed.reshape(len(nodes), -1) + self.bias)


class DepthTransformer(nn.Module):
    def __init__(self, tokens, width, heads, layers, feed_forward):
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        layer = nn.TransformerEncoderLayer(width, heads, feed_forward * width, 0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, tokens):
        return self.encoder(tokens + self.positions).mean(1)


class MagNet(nn.Module):
    """All after the patch encoder."""

    def __init__(self, width, genes, heads, hops, layers, feed_forward):
        super().__init__()
        self.cross_level = nn.ModuleList([CrossLevelAttention(width, heads) for _ in LEVELS[1:]])
        self.graph = nn.ModuleList(
            [nn.ModuleList([GraphAttentionLayer(width, heads) for _ in range(hops)]) for _ in LEVELS]
        )
        tokens = [3 * hops, hops, hops]
        self.depth = nn.ModuleList([DepthTransformer(of, width, heads, layers, feed_forward) for of in tokens])
        self.gene_head = nn.ModuleList([nn.Sequential(nn.LayerNorm(width), nn.Linear(width, genes)) for _ in LEVELS])

    def forward(self, nodes, parents, seen, graphs, core):
        """Predictions of the core nodes of bins, spots and regions.

        `nodes`: encoded, `[N,D]` each. `parents`: of each bin, a row of spots and one of regions. `seen`: which tiles a
        bin attends to, `[B,S]` and `[B,R]`. `graphs`: dense or tables. `core`: how many nodes are predicted.
        """
        bins, *tiles = nodes
        added = [attend(bins, of_level, mask) for attend, of_level, mask in zip(self.cross_level, tiles, seen)]
        hops = []
        for state, layers, graph in zip([bins + sum(added), *tiles], self.graph, graphs):
            outputs = []
            for layer in layers:
                state = layer(state, graph)
                outputs.append(state)
            hops.append(outputs)
        tokens = [[hop[:count] for hop in of_level] for of_level, count in zip(hops, core)]
        tokens[0] += [hop[parent[: core[0]]] for of_level, parent in zip(hops[1:], parents) for hop in of_level]
        return [head(depth(torch.stack(of, 1))) for head, depth, of in zip(self.gene_head, self.depth, tokens)]


def neighbors(count, device, k=8):
    """A table of K neighbours, the node itself first; which nodes they are does not matter to the clock."""
    steps = torch.arange(min(k + 1, count), device=device)
    return (torch.arange(count, device=device)[:, None] + steps) % count


def dense(table, count):
    """The same as a matrix."""
    rows = torch.zeros(len(table), count, dtype=torch.bool, device=table.device)
    return rows.scatter_(1, table, True)


def geometry(nodes, core, form, device):
    """What `MagNet.forward` reads beside the nodes."""
    tables = [neighbors(count, device) for count in nodes]
    parents = [torch.arange(nodes[0], device=device) * count // nodes[0] for count in nodes[1:]]
    seen = [dense(table[parent], count) for table, parent, count in zip(tables[1:], parents, nodes[1:])]
    graphs = tables if form == "tables" else [dense(table, count) for table, count in zip(tables, nodes)]
    return parents, seen, graphs, core
