//! What a path inside an image folder means: `[TOP/]train|test/CLASS/…/NAME.png|jpg|jpeg`. Used by
//! the image folder reader.

/// Training or test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Split {
    Train,
    Test,
}

/// Where an image belongs. The order (split, class, name) is the order of the images in the set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub split: Split,
    pub class: String,
    /// The path below the class folder.
    pub name: String,
    /// The folder above `train` and `test`, or nothing.
    pub top: Option<String>,
}

impl Place {
    /// The place of the image at `path` (components joined by `/`); nothing for hidden files, other
    /// files, and files elsewhere.
    pub fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        let extension = path.rsplit_once('.').map(|(_, extension)| extension)?;
        let image = ["png", "jpg", "jpeg"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(extension));
        if !image || parts.iter().any(|part| part.starts_with('.')) {
            return None;
        }
        match parts.as_slice() {
            [split, class, name @ ..] if !name.is_empty() && split_of(split).is_some() => {
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
            split: split_of(split)?,
            class: class.to_owned(),
            name: name.join("/"),
            top: top.map(str::to_owned),
        })
    }

    /// The path again.
    pub fn path(&self) -> String {
        let split = match self.split {
            Split::Train => "train",
            Split::Test => "test",
        };
        let top = self.top.iter().map(String::as_str);
        let parts: Vec<&str> = top.chain([split, &self.class, &self.name]).collect();
        parts.join("/")
    }
}

fn split_of(name: &str) -> Option<Split> {
    match name {
        "train" => Some(Split::Train),
        "test" => Some(Split::Test),
        _ => None,
    }
}
