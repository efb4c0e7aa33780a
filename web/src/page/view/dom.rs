//! Building and changing elements. Text goes in as text nodes and attributes only; nothing here parses markup.

use wasm_bindgen::{JsCast, JsValue, UnwrapThrowExt};
use web_sys::{Document, Element, Event, EventTarget, HtmlElement, Node};

use crate::page::listener::EventListener;

/// An element under construction.
#[derive(Debug, Clone)]
pub struct Build(Element);

/// Begins an element. `tag` is one of HTML's own names.
pub fn el(tag: &str) -> Build {
    Build(document().create_element(tag).unwrap_throw())
}

/// Begins an SVG element.
pub fn svg(tag: &str) -> Build {
    Build(document().create_element_ns(Some("http://www.w3.org/2000/svg"), tag).unwrap_throw())
}

impl Build {
    /// Sets the class names.
    pub fn class(self, names: &str) -> Self {
        self.attr("class", names)
    }

    /// Sets an attribute.
    pub fn attr(self, name: &str, value: &str) -> Self {
        set_attr(&self.0, name, Some(value));
        self
    }

    /// Sets the text.
    pub fn text(self, text: &str) -> Self {
        self.0.set_text_content(Some(text));
        self
    }

    /// Puts an element after those that are there.
    pub fn with(self, child: impl AsRef<Node>) -> Self {
        // Fails only where a node would become its own ancestor, which a new element cannot.
        let _ = self.0.append_child(child.as_ref());
        self
    }

    /// The element as the type that its tag makes it.
    pub fn done<E: JsCast>(self) -> E {
        self.0.dyn_into::<E>().map_err(JsValue::from).unwrap_throw()
    }
}

impl AsRef<Node> for Build {
    fn as_ref(&self) -> &Node {
        &self.0
    }
}

fn document() -> Document {
    gloo::utils::document()
}

/// Sets or removes an attribute; does nothing where it is so already.
pub fn set_attr(element: &Element, name: &str, value: Option<&str>) {
    if element.get_attribute(name).as_deref() != value {
        // Fails only for a name that HTML does not allow.
        let _ = match value {
            Some(value) => element.set_attribute(name, value),
            None => element.remove_attribute(name),
        };
    }
}

/// Sets or removes an attribute that is true by being there.
pub fn set_flag(element: &Element, name: &str, on: bool) {
    set_attr(element, name, on.then_some(""));
}

/// Replaces an element's text; does nothing where it is so already, so that live regions stay quiet.
pub fn set_text(element: &Element, text: &str) {
    if element.text_content().as_deref() != Some(text) {
        element.set_text_content(Some(text));
    }
}

/// Shows or hides an element.
pub fn show(element: &Element, shown: bool) {
    set_flag(element, "hidden", !shown);
}

/// Sets a style property through the object model, which a strict content security policy allows.
pub fn set_style(element: &HtmlElement, property: &str, value: &str) {
    let _ = element.style().set_property(property, value);
}

/// Removes what an element holds.
pub fn clear(element: &Element) {
    element.set_text_content(None);
}

/// A button with text.
pub fn button(text: &str, class: &str) -> Build {
    el("button").attr("type", "button").class(class).text(text)
}

/// A label over a control; `id` is the control's.
pub fn label(text: &str, id: &str) -> Build {
    el("label").attr("for", id).text(text)
}

/// An icon drawn in the current colour on a field of 16 × 16.
pub fn icon(path: &str) -> Build {
    svg("svg")
        .class("icon")
        .attr("viewBox", "0 0 16 16")
        .attr("aria-hidden", "true")
        .attr("focusable", "false")
        .with(svg("path").attr("d", path))
}

/// A square button with an icon and a name for those who do not see it.
pub fn icon_button(name: &str, path: &str, class: &str) -> Build {
    button("", class).attr("aria-label", name).attr("title", name).with(icon(path))
}

/// A heading of a group of controls.
pub fn heading(text: &str, id: &str) -> Build {
    el("h2").attr("id", id).text(text)
}

/// The target of an event as an element that `selector` matches, or its nearest ancestor that does.
pub fn closest(event: &Event, selector: &str) -> Option<Element> {
    event.target()?.dyn_into::<Element>().ok()?.closest(selector).ok().flatten()
}

/// Hears an event, and may prevent what the browser would do.
pub fn listen(target: &EventTarget, kind: &'static str, act: impl FnMut(&Event) + 'static) -> EventListener {
    EventListener::new(target, kind, act)
}
