//! Names of a module's parameters, as a visit comes to them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor};

/// Where a visit of a module stands. The variants of enumerations do not show in names, so that a weight file does not
/// depend on them.
#[derive(Debug, Default)]
pub struct ModulePath {
    names: Vec<String>,
    containers: Vec<String>,
}

impl ModulePath {
    /// Takes in what [`ModuleVisitor::enter_module`] says.
    pub fn enter(&mut self, name: &str, container_type: &str) {
        if !is_variant(container_type) {
            self.names.push(name.to_owned());
        }
        self.containers.push(container_type.to_owned());
    }

    /// Takes in what [`ModuleVisitor::exit_module`] says.
    pub fn leave(&mut self, container_type: &str) {
        if !is_variant(container_type) {
            self.names.pop();
        }
        self.containers.pop();
    }

    /// The fields on the way, joined by dots: `patch_encoder.stem.weight`.
    pub fn name(&self) -> String {
        self.names.join(".")
    }

    /// The first field on the way.
    pub fn first(&self) -> Option<&str> {
        self.names.first().map(String::as_str)
    }

    /// The type of the structure that holds the parameter, such as `Linear`.
    pub(crate) fn owner(&self) -> &str {
        self.containers
            .iter()
            .rev()
            .find_map(|container| container.strip_prefix("Struct:"))
            .unwrap_or_default()
    }

    /// Whether a structure of this type is on the way.
    pub(crate) fn is_within(&self, structure: &str) -> bool {
        self.containers.iter().any(|container| container.strip_prefix("Struct:") == Some(structure))
    }
}

fn is_variant(container_type: &str) -> bool {
    container_type.starts_with("Enum:")
}

/// Calls `each` with the place and shape of every tensor of a module, without initialising any.
pub(crate) fn for_each_shape<M: Module>(module: &M, each: impl FnMut(&ModulePath, Vec<usize>)) {
    struct Shapes<F> {
        path: ModulePath,
        each: F,
    }
    impl<F: FnMut(&ModulePath, Vec<usize>)> ModuleVisitor for Shapes<F> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, container_type: &str) {
            self.path.leave(container_type);
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            (self.each)(&self.path, param.lazy_shape().iter().copied().collect());
        }

        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            (self.each)(&self.path, param.lazy_shape().iter().copied().collect());
        }

        fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
            (self.each)(&self.path, param.lazy_shape().iter().copied().collect());
        }
    }
    module.visit(&mut Shapes { path: ModulePath::default(), each });
}
