"""The names of what is compared: `NAME+option+…` in PyTorch, `ours-ENGINE+option` here."""

# Options that a variant takes, by task.
KNOWN = {
    "inversion": {
        "public": {"amp"},
        "fixed": {"var_mean", "channels_last", "bf16"},
        "compiled": {"var_mean", "channels_last", "bf16", "graphs"},
        "ours": {"bf16"},
        "convolutions": set(),
    },
    "training": {
        "public": {"amp", "loaders"},
        "fixed": {"channels_last", "bf16"},
        "compiled": {"channels_last", "bf16", "graphs"},
        "ours": {"bf16"},
        "convolutions": set(),
    },
}
DEFAULT = {
    "inversion": ["public", "fixed", "compiled", "ours", "convolutions"],
    "training": ["public", "fixed", "ours", "convolutions"],
}
HELP = (
    "which of public, fixed, compiled, ours, convolutions, with options: +var_mean "
    "+channels_last +bf16 (fixed, compiled), +graphs (compiled), +amp (public), +loaders (public, "
    "training), +bf16 (ours)"
)


def split(variant):
    """A variant's name, our engine (empty where none is named) and its options."""
    name, *options = variant.split("+")
    name, _, engine = name.partition("-")
    return name, engine, options


def fits(task, variant):
    """True where cases of `task` have this variant."""
    name, engine, options = split(variant)
    known = KNOWN[task].get(name)
    return known is not None and set(options) <= known and (not engine or name == "ours")


def problem(variant):
    """Why no case has this variant; None where one has."""
    if any(fits(task, variant) for task in KNOWN):
        return None
    return f"there is no variant `{variant}`; available: {HELP.removeprefix('which of ')}"


def of_case(task, chosen, engines):
    """The variants of a case, ours by each engine, and those of `chosen` that it leaves out."""
    wanted = chosen or DEFAULT[task]
    kept = [variant for variant in wanted if fits(task, variant)]
    if task == "inversion":
        kept = [name for variant in kept for name in by_engines(variant, engines)]
    return kept, [variant for variant in wanted if not fits(task, variant)]


def by_engines(variant, engines):
    name, engine, options = split(variant)
    if name != "ours" or engine:
        return [variant]
    return ["+".join([f"ours-{engine}", *options]) for engine in engines]


def precision(variant, device):
    """How exact its products are: `f32`, `tf32` (convolutions on CUDA, by default) or `half`."""
    if {"amp", "bf16"} & set(split(variant)[2]):
        return "half"
    return "f32" if device == "cpu" else "tf32"
