//! The model card: what the model is, and how far to trust it.

use magnet_core::Level;
use web_sys::HtmlElement;

use super::dom::{Build, clear, el, set_attr};
use super::words;
use crate::page::session::state::State;
use crate::protocol::ModelSummary;

/// The part of the page about the model.
#[derive(Debug)]
pub struct About {
    /// All of it.
    pub root: HtmlElement,
    card: HtmlElement,
}

impl About {
    /// Builds the part.
    pub fn new() -> Self {
        let card: HtmlElement = el("div").class("card").done();
        let root: HtmlElement = el("details")
            .class("part about")
            .attr("aria-label", "About the model")
            .with(el("summary").text("About the model"))
            .with(&card)
            .done();
        Self { root, card }
    }

    /// Shows the state.
    pub fn refresh(&self, state: &State) {
        let key = match &state.model {
            Some(model) => format!("{} {}", model.sha256, model.name),
            None => "none".to_owned(),
        };
        if self.card.get_attribute("data-key").as_deref() == Some(&key) {
            return;
        }
        set_attr(&self.card, "data-key", Some(&key));
        clear(&self.card);
        let Some(model) = &state.model else {
            let _ = self
                .card
                .append_child(&el("p").class("hint").text("No model is open.").done::<HtmlElement>());
            return;
        };
        if let Some(entry) = state.chosen_entry().filter(|entry| entry.sha256 == model.sha256) {
            let _ = self.card.append_child(&el("p").text(&entry.description).done::<HtmlElement>());
        }
        let note = "Predicted, not measured; research use only.";
        let _ = self.card.append_child(&el("p").class("strong").text(note).done::<HtmlElement>());
        let _ = self.card.append_child(&facts(model).done::<HtmlElement>());
        let _ = self.card.append_child(&levels(model).done::<HtmlElement>());
        let warning = caution(model);
        let _ = self.card.append_child(&el("p").class("hint").text(warning).done::<HtmlElement>());
        if !model.command_line.is_empty() {
            let command = model.command_line.join(" ");
            let shown = el("div").class("command").with(el("h3").text("Trained with")).with(
                el("pre")
                    .attr("tabindex", "0")
                    .attr("aria-label", "Training command")
                    .with(el("code").text(&command)),
            );
            let _ = self.card.append_child(&shown.done::<HtmlElement>());
        }
    }
}

/// What must be known before the scores are read.
fn caution(model: &ModelSummary) -> &'static str {
    if model.held_out_slides.is_empty() {
        "The model has no held-out scores: nothing says how well it predicts."
    } else if model.selected_on_validation {
        "The held-out slides also chose the epoch at which training stopped, so their scores flatter the model a little."
    } else {
        "The held-out slides took no part in training, not even in choosing when to stop."
    }
}

fn facts(model: &ModelSummary) -> Build {
    let slides = |names: &[String]| match names.len() {
        0 => words::NONE.to_owned(),
        1..=12 => names.join(", "),
        count => format!("{} and {} more", names[..12].join(", "), count - 12),
    };
    let facts = [
        ("Trained on", slides(&model.training_slides)),
        ("Held out", slides(&model.held_out_slides)),
        ("Genes", words::count(model.symbols.len())),
        ("Unit", model.unit.clone()),
        ("Program", model.code_version.clone()),
        ("File", format!("{}, {}", model.name, words::bytes(model.size as f64))),
        ("SHA-256", model.sha256.clone()),
    ];
    facts.into_iter().fold(el("dl"), |list, (name, value)| {
        let class = if name == "SHA-256" { "mono" } else { "" };
        list.with(el("dt").text(name)).with(el("dd").class(class).text(&value))
    })
}

/// Each level's size and score.
fn levels(model: &ModelSummary) -> Build {
    let head = ["Level", "Tile", "Sees", "Mean held-out r"]
        .into_iter()
        .fold(el("tr"), |row, name| row.with(el("th").attr("scope", "col").text(name)));
    let mut body = el("tbody");
    for level in Level::ALL {
        let summary = model.levels.get(level);
        if !summary.predicted {
            continue;
        }
        let um = |um: f64| format!("{} µm", words::pixel_size(um));
        body = body.with(
            el("tr")
                .with(el("th").attr("scope", "row").text(level.name()))
                .with(el("td").text(&um(summary.tile_um)))
                .with(el("td").text(&um(summary.patch_um)))
                .with(el("td").text(&words::pearson(summary.pcc_gene_mean))),
        );
    }
    el("table")
        .with(el("caption").text("Levels; each gene's own score stands in the gene list"))
        .with(el("thead").with(head))
        .with(body)
}
