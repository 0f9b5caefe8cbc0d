//! Saving plots to folders of their own, and reading SVG back.

use fed_distill::Result;
use std::path::Path;

pub fn names(start: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{start}{i}")).collect()
}

/// Saves to a file of this name in a folder of its own and returns its bytes.
pub fn saved(name: &str, save: impl Fn(&Path) -> Result<()>) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    save(&folder.path().join(name))?;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    Ok(std::fs::read(folder.path().join(name)).unwrap())
}

pub fn svg(save: impl Fn(&Path) -> Result<()>) -> Svg {
    Svg(String::from_utf8(saved("plot.svg", save).unwrap()).unwrap())
}

pub fn error(name: &str, save: impl Fn(&Path) -> Result<()>) -> String {
    saved(name, save).unwrap_err().to_string()
}

pub struct Svg(pub String);

impl Svg {
    pub fn doc(&self) -> roxmltree::Document<'_> {
        roxmltree::Document::parse(&self.0).unwrap()
    }

    pub fn texts(&self) -> Vec<String> {
        let doc = self.doc();
        let texts = doc.descendants().filter(|node| node.has_tag_name("text"));
        texts
            .map(|node| node.text().unwrap_or_default().trim().to_owned())
            .collect()
    }

    pub fn has(&self, text: &str) -> bool {
        self.texts().iter().any(|found| found == text)
    }

    pub fn starting(&self, start: &str) -> usize {
        self.texts()
            .iter()
            .filter(|text| text.starts_with(start))
            .count()
    }

    /// Filled rectangles in drawing order: colour and x, y, width, height in units of the viewBox.
    pub fn rects(&self) -> Vec<(String, [f64; 4])> {
        let doc = self.doc();
        let rects = doc.descendants().filter(|node| node.has_tag_name("rect"));
        let place =
            |node: roxmltree::Node| ["x", "y", "width", "height"].map(|name| number(node, name));
        rects
            .map(|node| (node.attribute("fill").unwrap().to_owned(), place(node)))
            .collect()
    }

    /// Lines of more than two points (a legend's samples have two), in units of the viewBox.
    pub fn curves(&self) -> Vec<Vec<(f64, f64)>> {
        let doc = self.doc();
        let lines = doc
            .descendants()
            .filter(|node| node.has_tag_name("polyline"));
        let points = |node: roxmltree::Node| {
            let pairs = node.attribute("points").unwrap().split_whitespace();
            let pairs = pairs.map(|pair| pair.split_once(',').unwrap());
            pairs
                .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
                .collect::<Vec<(f64, f64)>>()
        };
        lines
            .map(points)
            .filter(|points| points.len() > 2)
            .collect()
    }

    pub fn circles(&self) -> usize {
        self.doc()
            .descendants()
            .filter(|node| node.has_tag_name("circle"))
            .count()
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (f64, f64) {
        let doc = self.doc();
        (
            number(doc.root_element(), "width"),
            number(doc.root_element(), "height"),
        )
    }

    /// Units of the viewBox in a pixel.
    pub fn unit(&self) -> f64 {
        let doc = self.doc();
        let view = doc.root_element().attribute("viewBox").unwrap();
        view.split(' ').nth(2).unwrap().parse::<f64>().unwrap() / self.size().0
    }
}

pub fn number(node: roxmltree::Node, name: &str) -> f64 {
    node.attribute(name).unwrap().parse().unwrap()
}
