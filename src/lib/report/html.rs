//! Makes one self-contained HTML page: headings, tables, bars, inline SVG, pictures as data URIs.
//! It has no script and no font, and loads nothing.
//!
//! The text is well-formed XML as well. Plots are drawn on white; on a dark page `style.css`
//! inverts their lightness and keeps their hues, so that colours that differ still do.

use super::{Table, beyond_xml};
use crate::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");
/// Elements without an end tag, written so that they are XML.
const META: &str = r#"<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>"#;
/// What our own plots consist of, those of earlier versions too; anything else is not put into a
/// page.
const ATTRIBUTES: [&str; 22] = [
    "width",
    "height",
    "viewBox",
    "x",
    "y",
    "cx",
    "cy",
    "r",
    "dx",
    "dy",
    "points",
    "transform",
    "fill",
    "opacity",
    "stroke",
    "stroke-width",
    "stroke-linejoin",
    "stroke-linecap",
    "text-anchor",
    "font-family",
    "font-size",
    "font-weight",
];
const ELEMENTS: [&str; 9] = [
    "svg", "rect", "text", "polyline", "polygon", "circle", "line", "path", "g",
];

/// Plots wider than this, in pixels, are not made narrower.
const BROAD: f64 = 560.0;

/// Holds a page, section by section.
#[derive(Debug)]
pub struct Page {
    title: String,
    lead: String,
    sections: Vec<(String, Markup)>,
}

impl Page {
    /// Starts a page without sections; `lead` is a line below the title.
    pub fn new(title: &str, lead: &str) -> Self {
        Self {
            title: title.to_owned(),
            lead: lead.to_owned(),
            sections: Vec::new(),
        }
    }

    /// Adds a section with a heading; nothing if the body is empty.
    pub fn section(&mut self, heading: &str, body: Markup) {
        if !body.0.is_empty() {
            self.sections.push((heading.to_owned(), body));
        }
    }

    /// Returns the whole file.
    pub fn render(&self) -> String {
        let page = html! {
            (DOCTYPE) "\n"
            html lang="en" {
                head {
                    (PreEscaped(META)) "\n"
                    title { (self.title) } "\n"
                    style { "\n" (PreEscaped(STYLE)) }
                } "\n"
                body {
                    header {
                        h1 { (self.title) }
                        p { (self.lead) }
                        nav {
                            @for (index, (heading, _)) in self.sections.iter().enumerate() {
                                a href={ "#s" (index) } { (heading) } " "
                            }
                        }
                    } "\n"
                    main {
                        @for (index, (heading, body)) in self.sections.iter().enumerate() {
                            section id={ "s" (index) } { h2 { (heading) } "\n" (body) } "\n"
                        }
                    }
                }
            }
        };
        // Names may hold control characters, which XML does not allow.
        page.into_string().replace(beyond_xml, " ") + "\n"
    }
}

/// Returns a heading within a section.
pub fn heading(text: &str) -> Markup {
    html! { h3 { (text) } "\n" }
}

/// Returns a paragraph.
pub fn paragraph(text: &str) -> Markup {
    html! { p { (text) } "\n" }
}

/// Returns a table; columns of numbers are aligned to the right.
pub fn table(table: &Table) -> Markup {
    rows(table, "wide")
}

/// Returns a table whose rows stand one below the other in a narrow window, a line a cell with the
/// name of its column, so that no column is out of sight.
pub fn records(table: &Table) -> Markup {
    rows(table, "records")
}

fn rows(table: &Table, class_of_all: &str) -> Markup {
    let (headers, rows, numeric) = table.parts();
    let name = |column: usize| headers.get(column).filter(|_| class_of_all == "records");
    let class = |column: usize| (numeric.get(column) == Some(&true)).then_some("n");
    html! {
        div class=(class_of_all) {
            table {
                thead {
                    tr {
                        @for (column, text) in headers.iter().enumerate() {
                            th class=[class(column)] { (text) }
                        }
                    }
                } "\n"
                tbody {
                    @for row in rows {
                        tr {
                            @for (column, text) in row.iter().enumerate() {
                                td class=[class(column)] data-name=[name(column)] {
                                    (text)
                                }
                            }
                        } "\n"
                    }
                }
            }
        } "\n"
    }
}

/// Returns values with a name each, side by side where there is space.
pub fn tiles(tiles: &[(String, String)]) -> Markup {
    html! {
        div class="tiles" {
            @for (value, name) in tiles {
                div { strong { (value) } span { (name) } } "\n"
            }
        } "\n"
    }
}

/// Describes a bar of a length 0..1 with a name and a value.
#[derive(Clone, Debug)]
pub struct Bar {
    pub name: String,
    pub share: f64,
    pub value: String,
    /// Drawn in the stronger colour.
    pub strong: bool,
}

/// Returns horizontal bars under a title that names the unit.
pub fn bars(title: &str, bars: &[Bar]) -> Markup {
    let style = |bar: &Bar| format!("width:{:.2}%", 100.0 * bar.share.clamp(0.0, 1.0));
    html! {
        figure {
            table class="bars" {
                caption { (title) }
                tbody {
                    @for bar in bars {
                        tr class=[bar.strong.then_some("strong")] {
                            th { (bar.name) }
                            td { div class="bar" style=(style(bar)) {} }
                            td class="n" { (bar.value) }
                        } "\n"
                    }
                }
            }
        } "\n"
    }
}

/// Returns an SVG of our own as part of the page.
///
/// # Errors
/// Fails for anything in it that our plots do not draw: it could run in the reader's browser.
pub fn plot(name: &str, svg: &str) -> Result<Markup> {
    let strange =
        |what: String| Error::failed(format!("the plot `{name}` is not one of ours: {what}"));
    let document = roxmltree::Document::parse(svg).map_err(|error| strange(error.to_string()))?;
    let root = &svg[document.root_element().range()];
    if let Some(what) = undrawn(&document, root) {
        return Err(strange(what));
    }
    let label = html! { (name) }.into_string();
    let svg = root.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    let svg = svg.replacen(
        "<svg",
        &format!("<svg role=\"img\" aria-label=\"{label}\""),
        1,
    );
    // Scaled down to a narrow window its text could not be read: it scrolls instead.
    let width = document.root_element().attribute("width");
    let broad = width
        .and_then(|width| width.parse::<f64>().ok())
        .is_some_and(|width| width > BROAD);
    Ok(html! {
        figure class=(if broad { "plot broad" } else { "plot" }) {
            div class="wide" { (PreEscaped(svg)) }
        } "\n"
    })
}

/// Returns what an SVG holds that our plots do not draw, if it holds anything else.
fn undrawn(document: &roxmltree::Document, root: &str) -> Option<String> {
    if root.contains("<!") || root.contains("<?") {
        return Some("it holds a comment or an instruction".into());
    }
    // What is called in CSS, as `url(…)` in any spelling, may load something.
    let calls = |attribute: &roxmltree::Attribute| {
        attribute.name() != "transform" && attribute.value().contains('(')
    };
    let refused = |attribute: &roxmltree::Attribute| {
        !ATTRIBUTES.contains(&attribute.name())
            || calls(attribute)
            || attribute.namespace().is_some()
    };
    let mut elements = document.descendants().filter(roxmltree::Node::is_element);
    elements.find_map(|node| {
        let element = node.tag_name().name();
        if !ELEMENTS.contains(&element) {
            return Some(format!("it holds <{element}>"));
        }
        let attribute = node.attributes().find(refused)?;
        Some(format!("it holds <{element} {}=…>", attribute.name()))
    })
}

/// Returns a PNG as part of the page.
pub fn picture(name: &str, png: &[u8]) -> Markup {
    let alt = html! { (name) }.into_string();
    let data = BASE64_STANDARD.encode(png);
    let image = format!("<img alt=\"{alt}\" src=\"data:image/png;base64,{data}\"/>");
    html! {
        figure {
            div class="wide" { (PreEscaped(image)) } "\n"
            figcaption { (name) }
        } "\n"
    }
}

/// Returns a part that is folded away until it is opened or printed.
pub fn fold(summary: &str, body: Markup) -> Markup {
    html! { details { summary { (summary) } "\n" (body) } "\n" }
}

/// Returns many short lines, in as many columns as fit.
pub fn columns(lines: &[String]) -> Markup {
    html! { pre class="columns" { (lines.join("\n")) } "\n" }
}

/// Returns lines unchanged.
pub fn verbatim(text: &str) -> Markup {
    html! { pre { (text) } "\n" }
}
