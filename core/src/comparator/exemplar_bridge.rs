//! EGN's exemplar bridging block: a patch's global view asks its exemplars what they know of expression, and tells the
//! tokens.

use burn::module::Module;
use burn::nn::{Gelu, Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

/// Linear → GELU → linear.
#[derive(Module, Debug)]
pub(super) struct Perceptron {
    first: Linear,
    gelu: Gelu,
    second: Linear,
}

impl Perceptron {
    /// From `inputs` to `outputs`, which is also the width between.
    pub(super) fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self {
            first: LinearConfig::new(inputs, outputs).init(device),
            gelu: Gelu::new(),
            second: LinearConfig::new(outputs, outputs).init(device),
        }
    }

    /// # Shapes
    /// - `input`: `[..., inputs]`
    /// - output: `[..., outputs]`
    pub(super) fn forward<const R: usize>(&self, input: Tensor<R>) -> Tensor<R> {
        self.second.forward(self.gelu.forward(self.first.forward(input)))
    }
}

/// What guides the tokens of `N` patches, with `K` exemplars each.
#[derive(Debug, Clone)]
pub(super) struct Guidance {
    /// `[N,D]` each patch's global view.
    pub(super) view: Tensor<2>,
    /// `[N,K,D]` the views of its exemplars.
    pub(super) exemplars: Tensor<3>,
    /// `[N,K,D]` their expression.
    pub(super) expression: Tensor<3>,
    /// `[N,K,1]` the share of each in averages: 0 where it must not be read.
    pub(super) shares: Tensor<3>,
}

/// One exemplar bridging block.
#[derive(Module, Debug)]
pub(super) struct ExemplarBridge {
    /// From a view and its distance to an exemplar's to what passes from the exemplar's expression into either.
    gates: Perceptron,
    expression: Perceptron,
    tokens: Linear,
    view_gate: Perceptron,
    to_tokens: Perceptron,
    to_view: Perceptron,
}

impl ExemplarBridge {
    pub(super) fn new(width: usize, device: &Device) -> Self {
        Self {
            gates: Perceptron::new(2 * width, 2 * width, device),
            expression: Perceptron::new(width, width, device),
            tokens: LinearConfig::new(width, 2 * width).init(device),
            view_gate: Perceptron::new(width, 2 * width, device),
            to_tokens: Perceptron::new(width, width, device),
            to_view: Perceptron::new(width, width, device),
        }
    }

    /// Tokens and guidance after they have told each other what they hold.
    ///
    /// # Shapes
    /// - `tokens`: `[N,L,D]`
    /// - output: the same
    pub(super) fn forward(&self, tokens: Tensor<3>, guidance: Guidance) -> (Tensor<3>, Guidance) {
        let Guidance { view, exemplars, expression, shares } = guidance;
        let [_, _, width] = exemplars.dims();
        let halves = |both: Tensor<3>| (both.clone().narrow(2, 0, width), both.narrow(2, width, width));

        let here = view.clone().unsqueeze_dim::<3>(1).expand(exemplars.dims()); // [N,K,D]
        let apart = here.clone() - exemplars.clone();
        let (for_view, for_exemplars) =
            halves(sigmoid(self.gates.forward(Tensor::cat(vec![here, apart], 2))));
        let expression = self.expression.forward(expression); // [N,K,D]
        let view = view + (for_view * expression.clone() * shares.clone()).sum_dim(1).squeeze_dim(1);
        let exemplars = exemplars + for_exemplars * expression.clone();

        let open = sigmoid(self.view_gate.forward(view.clone())).unsqueeze_dim(1); // [N,1,2D]
        let (of_view, of_tokens) = halves(self.tokens.forward(tokens.clone()) * open); // [N,L,D]
        let tokens = tokens + self.to_tokens.forward(of_tokens);
        let view = view + self.to_view.forward(of_view.mean_dim(1).squeeze_dim::<2>(1));
        (tokens, Guidance { view, exemplars, expression, shares })
    }
}
