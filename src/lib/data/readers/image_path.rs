//! Reads split, class and name from the path of an image in an image folder:
//! `[TOP/]train|test/CLASS/…/NAME.png|jpg|jpeg`. Used by the image folder reader.

/// Distinguishes training images from test images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Split {
    Train,
    Test,
}

/// Holds the parts of an image's path. The order of the fields (split, class, name) is the order
/// of the images in the dataset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ImagePath {
    pub split: Split,
    pub class: String,
    /// Path below the class folder.
    pub name: String,
    /// Folder above `train` and `test`, if there is one.
    pub top: Option<String>,
}

impl ImagePath {
    /// Splits `path` (components joined by `/`) into its parts, or returns `None` when it is
    /// hidden, is not named like an image, or lies outside the class folders.
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        let extension = path.rsplit_once('.').map(|(_, extension)| extension)?;
        let is_image = ["png", "jpg", "jpeg"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(extension));
        if !is_image || parts.iter().any(|part| part.starts_with('.')) {
            return None;
        }
        match parts.as_slice() {
            [split, class, name @ ..] if !name.is_empty() && split_named(split).is_some() => {
                Self::new(None, split, class, name)
            }
            [top, split, class, name @ ..] if !name.is_empty() => {
                Self::new(Some(top), split, class, name)
            }
            _ => None,
        }
    }

    fn new(top: Option<&str>, split: &str, class: &str, name: &[&str]) -> Option<Self> {
        Some(Self {
            split: split_named(split)?,
            class: class.to_owned(),
            name: name.join("/"),
            top: top.map(str::to_owned),
        })
    }

    /// Returns the path that was parsed.
    pub fn to_path(&self) -> String {
        let split = match self.split {
            Split::Train => "train",
            Split::Test => "test",
        };
        let top = self.top.iter().map(String::as_str);
        let parts: Vec<&str> = top.chain([split, &self.class, &self.name]).collect();
        parts.join("/")
    }
}

fn split_named(name: &str) -> Option<Split> {
    match name {
        "train" => Some(Split::Train),
        "test" => Some(Split::Test),
        _ => None,
    }
}
