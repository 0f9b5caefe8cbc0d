//! Layered, Hydra-like configuration: YAML groups in `config/`, overrides on the command line, one
//! typed struct at the end.
//!
//! # The config tree
//!
//! It is the copy inside the binary, to which `--config-dir FOLDER` adds files or whose files it
//! replaces; a `FOLDER` that holds a `config.yaml` is the whole tree, so that a copy of the tree
//! composes to the same in a later version. Without that flag it is
//! `./config`, if that holds the primary file and is no other program's. The primary file is
//! `config.yaml`; a group is a folder, an option a file in it. The content of `teacher/x.yaml`
//! stands under the key `teacher`, wherever it is chosen; `# @package _global_` at the head of a
//! file makes its keys those of the top.
//!
//! Values are merged in the order of the defaults tree: mappings deeply, anything else replaced;
//! later wins. A file's own keys come where `_self_` stands, at the end if it does not. Below all
//! are the built-in defaults (`Config::default()`), above all the overrides.
//!
//! | in a `defaults:` list | |
//! |---|---|
//! | `- group: option` | a group beside the file: `a: x` in `student/y.yaml` is `student/a/x.yaml` |
//! | `- /group: option` | a group at the top of the tree |
//! | `- override /group: option` | replaces other files' choice; where there is none it is the choice. Nearer to the primary file wins, then later |
//! | `- optional group: option` | passed over if there is no such file |
//! | `- group: null`, `- group: ???` | a place for a later choice; a choice the user must make |
//! | `- name` | another file of the same folder |
//! | `- _self_` | the file's own keys |
//!
//! # Overrides
//!
//! | form | |
//! |---|---|
//! | `group=option` | replaces the choice wherever it was made; adds it at the end if nobody chose. `group=null` takes it away |
//! | `+group=option` | adds; an error if another option is chosen (the same one is fine) |
//! | `~group`, `~group=option` | takes the choice away (if it is this one) |
//! | `a.b=v` | sets a key; a mapping merges |
//! | `+a=v` | an error if a file or an earlier argument has set the key; over a built-in default it is fine |
//! | `++a=v` | sets in any case |
//! | `~a`, `~a=v` | forgets what files and arguments said (if it is this value): the built-in default is back |
//! | `k=1,2`, `k=range(0,3)`, `k=choice(a,b)` | a sweep, with `--multirun` only |
//!
//! Unlike Hydra, the schema is closed and every key has a default, so `+` never makes a new key;
//! packages are absolute and `@` is not supported; a group takes one option. Jobs of a sweep write
//! where their config says: refer to what varies, as in
//! `-m seed=1,2 'student.save_folder=outputs/seed_${seed}'`, to give each a folder of its own.
//!
//! `${a.b}`, `${oc.env:NAME,default}` and `${now:%Y-%m-%d}` are resolved after merging; `???` is a
//! value the user must give.

mod apply;
mod check;
mod choice_errors;
mod choices;
mod compose;
mod composed;
mod defaults;
mod extract;
mod grammar;
mod home;
mod interpolate;
mod kinds;
mod known;
mod mistakes;
mod node;
mod options;
mod other_project;
mod overrides;
mod range;
mod scalar;
pub mod schema;
mod separate;
pub mod shape;
mod suggest;
mod template;
mod tree;
mod validate;
mod walk;
mod without_effect;
mod yaml;

pub use choices::Chosen;
pub use compose::{Request, compose, compose_all};
pub use composed::Composed;
pub use grammar::{quoted, typed_list};
pub use node::Origin;
pub use schema::Config;
pub use suggest::{either, list, nearest};
pub use tree::Tree;
pub use without_effect::Idle;
