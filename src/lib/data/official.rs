//! Lists the official files of the datasets, with their addresses and hashes. Used by the readers
//! that download missing files.
//!
//! The hashes are those that TensorFlow Datasets pins for the same files; its MNIST mirror holds
//! the files unchanged.

use super::settings::DatasetKind;

/// Describes a file of a dataset, whose address is `base` + `name`.
#[derive(Debug)]
pub(super) struct Remote {
    pub base: &'static str,
    pub name: &'static str,
    /// SHA-256 in hexadecimal.
    pub sha256: &'static str,
}

/// Returns the files of a dataset, in the order training images, training labels, test images,
/// test labels for the MNIST family; none for a kind that is not downloaded.
pub(super) fn files(kind: DatasetKind) -> &'static [Remote] {
    match kind {
        DatasetKind::Mnist => &MNIST,
        DatasetKind::FashionMnist => &FASHION_MNIST,
        DatasetKind::Kmnist => &KMNIST,
        DatasetKind::Cifar10 => &CIFAR10,
        DatasetKind::Cifar100 => &CIFAR100,
        DatasetKind::Digits | DatasetKind::ImageFolder | DatasetKind::None => &[],
    }
}

/// Returns the files of an IDX dataset, which have the same names in all three.
const fn idx(base: &'static str, sha256: [&'static str; 4]) -> [Remote; 4] {
    let [train_images, train_labels, test_images, test_labels] = sha256;
    [
        Remote {
            base,
            name: "train-images-idx3-ubyte.gz",
            sha256: train_images,
        },
        Remote {
            base,
            name: "train-labels-idx1-ubyte.gz",
            sha256: train_labels,
        },
        Remote {
            base,
            name: "t10k-images-idx3-ubyte.gz",
            sha256: test_images,
        },
        Remote {
            base,
            name: "t10k-labels-idx1-ubyte.gz",
            sha256: test_labels,
        },
    ]
}

const MNIST: [Remote; 4] = idx(
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    [
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ],
);

const FASHION_MNIST: [Remote; 4] = idx(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    [
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ],
);

const KMNIST: [Remote; 4] = idx(
    "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    [
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ],
);

const CIFAR10: [Remote; 1] = [Remote {
    base: "https://www.cs.toronto.edu/~kriz/",
    name: "cifar-10-binary.tar.gz",
    sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
}];

const CIFAR100: [Remote; 1] = [Remote {
    base: "https://www.cs.toronto.edu/~kriz/",
    name: "cifar-100-binary.tar.gz",
    sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
}];
