//! The gene search: a text field over a list, sorted by what is known about each gene.

use std::cell::{Cell, RefCell};

use magnet_core::Level;
use web_sys::{Element, HtmlElement, HtmlInputElement, HtmlOptionElement, HtmlSelectElement};

use super::dom::{clear, el, heading, label, set_attr, set_style, set_text, show};
use super::genes::{GeneSort, Panel, is_weak};
use super::look::{Look, MAX_PANELS};
use super::words;
use crate::page::session::state::State;
use crate::protocol::ModelSummary;

/// Most rows of the list; a panel of many genes is narrowed by typing.
const MAX_ROWS: usize = 250;

/// A level as the page names it.
fn plain_name(level: Level) -> &'static str {
    match level {
        Level::Bin => "Bin",
        Level::Spot => "Spot",
        Level::Region => "Region",
    }
}

/// Whether a model's smallest tiles are what arrays call spots.
fn has_spot_bins(model: &ModelSummary) -> bool {
    words::is_spot(model.levels.bin.tile_um)
}

/// A level of a model as the page names it: by its size where its tiles are as large as an array's spots, because what
/// this method calls a bin is a spot to whoever knows arrays.
fn level_name(model: &ModelSummary, level: Level) -> String {
    if !has_spot_bins(model) {
        return plain_name(level).to_owned();
    }
    let um = words::pixel_size(model.levels.get(level).tile_um);
    match level {
        Level::Bin => format!("Spot ({um} µm)"),
        Level::Spot | Level::Region => format!("{um} µm"),
    }
}

/// The part of the page that chooses level and genes.
#[derive(Debug)]
pub struct GeneList {
    /// All of it.
    pub root: HtmlElement,
    /// The search.
    pub search: HtmlInputElement,
    /// The order.
    pub sort: HtmlSelectElement,
    /// The list; its options have the gene's position in `data-gene`.
    pub list: HtmlElement,
    /// Whether a gene is added instead of changed.
    pub side_by_side: HtmlInputElement,
    /// The levels, each a radio button with the level's name as value.
    pub levels: HtmlElement,
    radios: Vec<(Level, HtmlInputElement)>,
    level_hint: HtmlElement,
    more: HtmlElement,
    rows: RefCell<Vec<usize>>,
    shown_key: RefCell<String>,
    highlighted: Cell<Option<usize>>,
}

impl GeneList {
    /// Builds the part.
    pub fn new() -> Self {
        let mut levels = el("div").class("segments").attr("role", "radiogroup").attr("aria-label", "Level");
        let mut radios = Vec::new();
        for level in Level::ALL {
            let (id, text) = (format!("level-{}", level.name()), plain_name(level));
            let radio: HtmlInputElement = el("input")
                .attr("type", "radio")
                .attr("name", "level")
                .attr("id", &id)
                .attr("value", level.name())
                .done();
            levels = levels.with(el("span").class("segment").with(&radio).with(label(text, &id)));
            radios.push((level, radio));
        }
        let levels: HtmlElement = levels.done();
        let level_hint: HtmlElement = el("p").class("hint").done();
        let search: HtmlInputElement = el("input")
            .attr("type", "text")
            .attr("id", "gene-search")
            .attr("role", "combobox")
            .attr("aria-label", "Search gene")
            .attr("aria-controls", "gene-list")
            .attr("aria-expanded", "true")
            .attr("aria-autocomplete", "list")
            .attr("aria-describedby", "gene-keys")
            .attr("placeholder", "Search gene")
            .attr("autocomplete", "off")
            .attr("autocapitalize", "characters")
            .attr("spellcheck", "false")
            .done();
        let sort: HtmlSelectElement = el("select").attr("id", "gene-sort").done();
        for order in GeneSort::ALL {
            let option: HtmlOptionElement =
                el("option").attr("value", order.name()).text(order.label()).done();
            let _ = sort.append_child(&option);
        }
        let list: HtmlElement = el("ul")
            .class("genes")
            .attr("id", "gene-list")
            .attr("role", "listbox")
            .attr("aria-label", "Genes")
            .attr("aria-multiselectable", "true")
            .attr("tabindex", "0")
            .done();
        let more: HtmlElement = el("p").class("hint").attr("hidden", "").done();
        let side_by_side: HtmlInputElement =
            el("input").attr("type", "checkbox").attr("id", "side-by-side").done();
        let columns = el("div")
            .class("gene-columns")
            .attr("aria-hidden", "true")
            .with(el("span").text("Gene"))
            .with(
                el("span")
                    .attr("title", "Pearson correlation on slides that the model was not fitted to")
                    .text("held-out r"),
            )
            .with(el("span").attr("title", "Standard deviation of the prediction on this image").text("SD"));
        let keys =
            format!("Enter shows the gene, Shift and Enter shows it beside the others, up to {MAX_PANELS}.");
        let root: HtmlElement = el("div")
            .attr("role", "group")
            .class("part gene-part")
            .attr("aria-labelledby", "genes-heading")
            .with(heading("Genes", "genes-heading"))
            .with(&levels)
            .with(&level_hint)
            .with(el("div").class("search").with(&search))
            .with(el("p").class("unseen").attr("id", "gene-keys").text(&keys))
            .with(el("div").class("inline").with(label("Sort genes by", "gene-sort")).with(&sort))
            .with(columns)
            .with(&list)
            .with(&more)
            .with(
                el("div")
                    .class("inline check")
                    .with(&side_by_side)
                    .with(label("Show genes side by side", "side-by-side")),
            )
            .done();
        Self {
            root,
            search,
            sort,
            list,
            side_by_side,
            levels,
            radios,
            level_hint,
            more,
            rows: RefCell::default(),
            shown_key: RefCell::default(),
            highlighted: Cell::new(None),
        }
    }

    /// Shows the state.
    pub fn refresh(&self, state: &State, look: &Look) {
        self.refresh_level(state, look);
        let empty = state.model.is_none();
        self.search.set_disabled(empty);
        self.sort.set_disabled(empty);
        self.side_by_side.set_disabled(empty);
        self.side_by_side.set_checked(look.side_by_side);
        if self.sort.value() != look.sort.name() {
            self.sort.set_value(look.sort.name());
        }
        let key = format!(
            "{} {} {:?} {:?} {} {:?} {}",
            state.model.as_ref().map(|model| model.sha256.as_str()).unwrap_or_default(),
            look.level,
            look.sort,
            look.genes,
            look.active,
            state.result,
            look.query,
        );
        if *self.shown_key.borrow() != key {
            *self.shown_key.borrow_mut() = key;
            self.rebuild(state, look);
        }
    }

    /// The gene that the keyboard is at; the first one, before the keyboard was in the list.
    pub fn highlighted(&self) -> Option<usize> {
        self.rows.borrow().get(self.highlighted.get().unwrap_or(0)).copied()
    }

    /// Moves the keyboard's place by some rows; the first step down enters the list.
    pub fn step(&self, by: isize) {
        let last = self.rows.borrow().len().saturating_sub(1);
        let place = self.highlighted.get().map_or(0, |place| place.saturating_add_signed(by));
        self.highlight(Some(place.min(last)), true);
    }

    /// Takes the keyboard's place away: the list is another one.
    pub fn restart(&self) {
        self.highlight(None, false);
        self.list.set_scroll_top(0);
    }

    /// Puts the keyboard's place on the first row.
    pub fn to_first(&self) {
        self.highlight(Some(0), true);
    }

    /// Puts the keyboard's place on the last row.
    pub fn to_last(&self) {
        let last = self.rows.borrow().len().saturating_sub(1);
        self.highlight(Some(last), true);
    }

    /// Puts the keyboard's place on a gene, if it is in the list.
    pub fn highlight_gene(&self, gene: usize) {
        let place = self.rows.borrow().iter().position(|&row| row == gene);
        if place.is_some() {
            self.highlight(place, false);
        }
    }

    fn highlight(&self, place: Option<usize>, scroll: bool) {
        self.highlighted.set(place);
        let options = self.list.children();
        for index in 0..options.length() {
            if let Some(option) = options.item(index) {
                set_attr(&option, "data-at", (Some(index as usize) == place).then_some(""));
            }
        }
        let at = place.and_then(|place| u32::try_from(place).ok()).and_then(|index| options.item(index));
        let id = at.as_ref().map(Element::id);
        for owner in [&self.search as &Element, &self.list as &Element] {
            set_attr(owner, "aria-activedescendant", id.as_deref());
        }
        if let (Some(Ok(option)), true) = (at.map(wasm_bindgen::JsCast::dyn_into::<HtmlElement>), scroll) {
            self.reveal(&option);
        }
    }

    /// Scrolls the list, and only the list, until an option is in it.
    fn reveal(&self, option: &HtmlElement) {
        let (top, bottom) = (option.offset_top(), option.offset_top() + option.offset_height());
        if top < self.list.scroll_top() {
            self.list.set_scroll_top(top);
        } else if bottom > self.list.scroll_top() + self.list.client_height() {
            self.list.set_scroll_top(bottom - self.list.client_height());
        }
    }

    fn refresh_level(&self, state: &State, look: &Look) {
        for (level, radio) in &self.radios {
            let predicted = state.model.as_ref().is_none_or(|model| model.levels.get(*level).predicted);
            radio.set_disabled(!predicted);
            radio.set_checked(*level == look.level);
            let name = state.model.as_deref().map(|model| level_name(model, *level));
            let name = name.unwrap_or_else(|| plain_name(*level).to_owned());
            if let Some(label) = radio.next_element_sibling() {
                set_text(&label, &name);
            }
            // Where bins are called spots, a level of that name that the model lacks would only confuse.
            let hides = state.model.as_deref().is_some_and(has_spot_bins) && !predicted;
            if let Some(segment) = radio.parent_element() {
                show(&segment, !hides);
            }
        }
        let hint = state.model.as_ref().map(|model| {
            let level = model.levels.get(look.level);
            let mean =
                level.pcc_gene_mean.map(|mean| format!("; mean held-out r {}", words::pearson(Some(mean))));
            format!("{} µm tiles{}", words::pixel_size(level.tile_um), mean.unwrap_or_default())
        });
        set_text(&self.level_hint, hint.as_deref().unwrap_or("\u{a0}"));
    }

    fn rebuild(&self, state: &State, look: &Look) {
        let kept = self.highlighted.get().and_then(|place| self.rows.borrow().get(place).copied());
        clear(&self.list);
        let Some(model) = &state.model else {
            self.rows.borrow_mut().clear();
            show(&self.more, false);
            return;
        };
        let panel = Panel {
            symbols: &model.symbols,
            ids: &model.ids,
            pearson: &model.levels.get(look.level).gene_pearson,
            deviation: state.deviation.as_ref().map_or(&[], |deviation| deviation.get(look.level)),
        };
        let found = panel.find(&look.query, look.sort);
        let largest =
            panel.deviation.iter().copied().filter(|deviation| deviation.is_finite()).fold(0.0, f32::max);
        for &gene in found.iter().take(MAX_ROWS) {
            let _ = self.list.append_child(&row(&panel, gene, largest, look));
        }
        let hidden = found.len().saturating_sub(MAX_ROWS);
        show(&self.more, hidden > 0 || found.is_empty());
        set_text(
            &self.more,
            &if found.is_empty() {
                format!("No gene of this model matches “{}”.", look.query.trim())
            } else {
                format!("{} more; type to narrow the list.", words::count(hidden))
            },
        );
        let rows: Vec<usize> = found.into_iter().take(MAX_ROWS).collect();
        let place = kept.and_then(|gene| rows.iter().position(|&row| row == gene));
        *self.rows.borrow_mut() = rows;
        self.highlight(place, false);
    }
}

fn row(panel: &Panel<'_>, gene: usize, largest: f32, look: &Look) -> HtmlElement {
    let symbol = panel.symbols.get(gene).map(String::as_str).unwrap_or_default();
    let (pearson, deviation) = (panel.pearson(gene), panel.deviation(gene));
    let score = words::pearson(pearson.map(f64::from));
    let spread = deviation.map_or_else(|| words::NONE.to_owned(), words::value);
    let column = |class: &str, words: &str, fraction: Option<f32>, number: &str| {
        let bar: HtmlElement = el("span").class("mini").done();
        set_style(&bar, "--part", &format!("{:.3}", fraction.unwrap_or(0.0).clamp(0.0, 1.0)));
        show(&bar, fraction.is_some());
        // The words make the row a sentence for those who hear it.
        el("span")
            .class(class)
            .with(bar)
            .with(el("span").class("unseen").text(words))
            .with(el("span").class("number").text(number))
    };
    let part = deviation.map(|deviation| deviation / largest.max(f32::MIN_POSITIVE));
    let shown = look.genes.contains(&gene);
    let mut option = el("li")
        .attr("role", "option")
        .attr("id", &format!("gene-{gene}"))
        .attr("data-gene", &gene.to_string())
        .attr("aria-selected", if shown { "true" } else { "false" })
        .with(el("span").class("symbol").text(symbol))
        .with(column("score", " held-out Pearson ", pearson, &score))
        .with(column("spread", " predicted standard deviation ", part, &spread));
    if look.active_gene() == Some(gene) {
        option = option.attr("data-active", "");
    }
    if is_weak(pearson) {
        option = option.attr("data-weak", "").attr("title", "Hardly predicted on held-out slides");
    }
    option.done()
}
