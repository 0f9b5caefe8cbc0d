//! One self-contained HTML page: headings, tables, bars, inline SVG, pictures as data URIs. No
//! script, no font, nothing from elsewhere.
//!
//! The text is well-formed XML as well. Plots are drawn on white; in the dark their lightness is
//! turned around and their hues are kept, so colours that differ still do (`style.css`).

use super::Table;
use crate::{Error, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");
/// What our own plots consist of; anything else is not put into a page.
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

/// A page, section by section.
#[derive(Debug)]
pub struct Page {
    title: String,
    lead: String,
    sections: Vec<(String, String)>,
}

impl Page {
    /// A page without sections; `lead` is a line below the title.
    pub fn new(title: &str, lead: &str) -> Self {
        Self {
            title: title.to_owned(),
            lead: lead.to_owned(),
            sections: Vec::new(),
        }
    }

    /// Adds a section with a heading; without a body nothing.
    pub fn section(&mut self, heading: &str, body: String) {
        if !body.is_empty() {
            self.sections.push((heading.to_owned(), body));
        }
    }

    /// The whole file.
    pub fn render(&self) -> String {
        let title = escape(&self.title);
        let (mut links, mut body) = (String::new(), String::new());
        for (index, (heading, content)) in self.sections.iter().enumerate() {
            let heading = escape(heading);
            let _ = write!(links, "<a href=\"#s{index}\">{heading}</a> ");
            let _ = write!(
                body,
                "<section id=\"s{index}\"><h2>{heading}</h2>\n{content}</section>\n"
            );
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"color-scheme\" content=\"light dark\"/>\n<style>\n{STYLE}</style></head>\n\
             <body><header><h1>{title}</h1><p>{}</p><nav>{links}</nav></header>\n<main>\n{body}</main></body></html>\n",
            escape(&self.lead)
        )
    }
}

/// Text in HTML, in an attribute too.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // Control characters have no place in XML.
            letter if letter.is_control() && letter != '\n' => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

/// A heading within a section.
pub fn heading(text: &str) -> String {
    format!("<h3>{}</h3>\n", escape(text))
}

/// A paragraph.
pub fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// A table; columns of numbers are aligned to the right.
pub fn table(table: &Table) -> String {
    let (headers, rows, numeric) = table.parts();
    let class = |column: usize| {
        if numeric.get(column) == Some(&true) {
            " class=\"n\""
        } else {
            ""
        }
    };
    let cells = |tag: &str, cells: &[String]| {
        let cell = |(column, text): (usize, &String)| {
            format!("<{tag}{}>{}</{tag}>", class(column), escape(text))
        };
        cells.iter().enumerate().map(cell).collect::<String>()
    };
    let head = cells("th", headers);
    let body: String = rows
        .iter()
        .map(|row| format!("<tr>{}</tr>\n", cells("td", row)))
        .collect();
    format!(
        "<div class=\"wide\"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
    )
}

/// Figures with a name each, side by side where there is room.
pub fn tiles(tiles: &[(String, String)]) -> String {
    let tile = |(value, name): &(String, String)| {
        format!(
            "<div><strong>{}</strong><span>{}</span></div>\n",
            escape(value),
            escape(name)
        )
    };
    format!(
        "<div class=\"tiles\">{}</div>\n",
        tiles.iter().map(tile).collect::<String>()
    )
}

/// A bar of a length 0..1 with a name and a value.
#[derive(Clone, Debug)]
pub struct Bar {
    pub name: String,
    pub share: f64,
    pub value: String,
    /// Drawn in the stronger colour.
    pub strong: bool,
}

/// Horizontal bars under a title that says the unit.
pub fn bars(title: &str, bars: &[Bar]) -> String {
    let bar = |bar: &Bar| {
        format!(
            "<tr{}><th>{}</th><td><div class=\"bar\" style=\"width:{:.2}%\"></div></td><td class=\"n\">{}</td></tr>\n",
            if bar.strong { " class=\"strong\"" } else { "" },
            escape(&bar.name),
            100.0 * bar.share.clamp(0.0, 1.0),
            escape(&bar.value)
        )
    };
    let rows: String = bars.iter().map(bar).collect();
    format!(
        "<figure><table class=\"bars\"><caption>{}</caption><tbody>{rows}</tbody></table></figure>\n",
        escape(title)
    )
}

/// An SVG of our own in the page itself.
///
/// # Errors
/// Anything in it that our plots do not draw: it could run in the reader's browser.
pub fn plot(name: &str, svg: &str) -> Result<String> {
    let strange =
        |what: String| Error::failed(format!("the plot `{name}` is not one of ours: {what}"));
    let document = roxmltree::Document::parse(svg).map_err(|error| strange(error.to_string()))?;
    let root = &svg[document.root_element().range()];
    if root.contains("<!") || root.contains("<?") {
        return Err(strange("it holds a comment or an instruction".into()));
    }
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let element = node.tag_name().name();
        if !ELEMENTS.contains(&element) {
            return Err(strange(format!("it holds <{element}>")));
        }
        let foreign = |attribute: &roxmltree::Attribute| {
            !ATTRIBUTES.contains(&attribute.name())
                || attribute.value().contains("url(")
                || attribute.namespace().is_some()
        };
        if let Some(attribute) = node.attributes().find(foreign) {
            return Err(strange(format!(
                "it holds <{element} {}=…>",
                attribute.name()
            )));
        }
    }
    let svg = root.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    let svg = svg.replacen(
        "<svg",
        &format!("<svg role=\"img\" aria-label=\"{}\"", escape(name)),
        1,
    );
    // Scaled down to a narrow window its text could not be read: it scrolls instead.
    let width = svg
        .split("width=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next()?.parse::<f64>().ok());
    let class = if width.is_some_and(|width| width > BROAD) {
        "plot broad"
    } else {
        "plot"
    };
    Ok(format!(
        "<figure class=\"{class}\"><div class=\"wide\">{svg}</div></figure>\n"
    ))
}

/// A PNG in the page itself.
pub fn picture(name: &str, png: &[u8]) -> String {
    let name = escape(name);
    let data = BASE64_STANDARD.encode(png);
    format!(
        "<figure><div class=\"wide\"><img alt=\"{name}\" src=\"data:image/png;base64,{data}\"/></div>\n<figcaption>{name}</figcaption></figure>\n"
    )
}

/// A part that is folded away until it is asked for, or printed.
pub fn fold(summary: &str, body: &str) -> String {
    format!(
        "<details><summary>{}</summary>\n{body}</details>\n",
        escape(summary)
    )
}

/// Many short lines, in as many columns as there is room for.
pub fn columns(lines: &[String]) -> String {
    format!(
        "<pre class=\"columns\">{}</pre>\n",
        escape(&lines.join("\n"))
    )
}

/// Lines as they are.
pub fn verbatim(text: &str) -> String {
    format!("<pre>{}</pre>\n", escape(text))
}
