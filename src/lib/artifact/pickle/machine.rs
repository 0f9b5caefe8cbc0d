//! Runs the opcodes of a pickle on a stack and a memo. Opcodes outside the list are errors.

use super::{Global, Object, Ref, Storage, View, global};
use crate::{Error, Result};
use std::collections::HashMap;

pub(super) struct Machine<'a> {
    rest: &'a [u8],
    objects: Vec<Object>,
    stack: Vec<Ref>,
    /// The heights of the stack at each mark.
    marks: Vec<usize>,
    memo: HashMap<u64, Ref>,
}

/// Returns an error about a pickle that no pickler wrote.
fn broken(why: &str) -> Error {
    Error::failed(format!("the pickle in the file is damaged: {why}"))
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            objects: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Runs up to the stop. Returns all objects, and the index of the one that is left on the
    /// stack.
    pub fn run(mut self) -> Result<(Vec<Object>, Ref)> {
        loop {
            match self.byte()? {
                b'.' => break,
                opcode => self.step(opcode)?,
            }
        }
        let root = self.pop()?;
        Ok((self.objects, root))
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // framing: protocol number, frame length
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            // values
            b'N' => self.push(Object::None),
            0x88 | 0x89 => self.push(Object::Bool),
            b'K' => self.unsigned(1),
            b'M' => self.unsigned(2),
            b'J' => self.signed(4),
            0x8a => self.byte().and_then(|length| self.signed(length.into())),
            b'G' => self.take(8).and_then(|_| self.push(Object::Float)),
            b'X' => self.length(4).and_then(|length| self.text(length)),
            0x8c => self.length(1).and_then(|length| self.text(length)),
            // containers
            b'}' => self.push(Object::Dict(Vec::new())),
            b']' => self.push(Object::List(Vec::new())),
            b')' => self.push(Object::Tuple(Vec::new())),
            0x85..=0x87 => self.short_tuple(usize::from(opcode - 0x84)),
            b't' => self
                .pop_to_mark()
                .and_then(|items| self.push(Object::Tuple(items))),
            b'a' => self.pop().and_then(|item| self.append(vec![item])),
            b'e' => self.pop_to_mark().and_then(|items| self.append(items)),
            b's' => self.pop().and_then(|value| {
                let key = self.pop()?;
                self.set_items(&[key, value])
            }),
            b'u' => self.pop_to_mark().and_then(|items| self.set_items(&items)),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            // memo
            b'q' => self.length(1).and_then(|slot| self.remember(slot)),
            b'r' => self.length(4).and_then(|slot| self.remember(slot)),
            0x94 => self.remember(self.memo.len() as u64),
            b'h' => self.length(1).and_then(|slot| self.recall(slot)),
            b'j' => self.length(4).and_then(|slot| self.recall(slot)),
            // names, and what stands for calls
            b'c' => self.global_lines(),
            0x93 => self.global_from_stack(),
            b'Q' => self.persistent(),
            b'R' => self.reduce(),
            b'b' => self.build(),
            other => Err(Error::failed(format!(
                "the pickle in the file uses the operation 0x{other:02x}, which a state dict \
                 never needs"
            ))),
        }
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let split = usize::try_from(count)
            .ok()
            .and_then(|n| self.rest.split_at_checked(n));
        let (head, rest) = split.ok_or_else(|| broken("it ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8> {
        self.length(1).map(|byte| byte as u8)
    }

    /// Reads an unsigned little-endian number of `bytes` ≤ 8.
    fn length(&mut self, bytes: u64) -> Result<u64> {
        let digits = self.take(bytes)?.iter().rev();
        Ok(digits.fold(0, |number, &digit| number << 8 | u64::from(digit)))
    }

    /// Reads an integer in two's complement.
    fn signed(&mut self, bytes: u64) -> Result<()> {
        if bytes > 8 {
            return Err(broken("an integer is longer than 64 bits"));
        }
        let number = self.length(bytes)? as i64;
        let unused = if bytes == 0 { 0 } else { 64 - 8 * bytes };
        self.push(Object::Int(number << unused >> unused))
    }

    fn unsigned(&mut self, bytes: u64) -> Result<()> {
        let number = self.length(bytes)? as i64;
        self.push(Object::Int(number))
    }

    fn text(&mut self, length: u64) -> Result<()> {
        let text = std::str::from_utf8(self.take(length)?)
            .map_err(|error| broken("a string is not UTF-8").caused_by(error))?;
        self.push(Object::Text(text.to_string()))
    }

    fn push(&mut self, object: Object) -> Result<()> {
        self.stack.push(self.objects.len());
        self.objects.push(object);
        Ok(())
    }

    /// Takes the topmost object; nothing below the last mark can be taken.
    fn pop(&mut self) -> Result<Ref> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = if self.stack.len() > floor {
            self.stack.pop()
        } else {
            None
        };
        top.ok_or_else(|| broken("its stack is empty"))
    }

    fn top(&mut self) -> Result<Ref> {
        let top = self.pop()?;
        self.stack.push(top);
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Ref>> {
        let mark = self.marks.pop().ok_or_else(|| broken("it has no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn short_tuple(&mut self, length: usize) -> Result<()> {
        let mut items = (0..length)
            .map(|_| self.pop())
            .collect::<Result<Vec<_>>>()?;
        items.reverse();
        self.push(Object::Tuple(items))
    }

    fn append(&mut self, items: Vec<Ref>) -> Result<()> {
        let top = self.top()?;
        match &mut self.objects[top] {
            Object::List(list) => list.extend(items),
            _ => return Err(broken("it appends to what is not a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Ref]) -> Result<()> {
        let top = self.top()?;
        match (&mut self.objects[top], items.as_chunks()) {
            (Object::Dict(dict), (pairs, [])) => {
                dict.extend(pairs.iter().map(|&[key, value]| (key, value)))
            }
            _ => return Err(broken("it sets items of what is not a dict")),
        }
        Ok(())
    }

    fn remember(&mut self, slot: u64) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u64) -> Result<()> {
        let known = self
            .memo
            .get(&slot)
            .ok_or_else(|| broken("it recalls what was not stored"))?;
        self.stack.push(*known);
        Ok(())
    }

    fn global_lines(&mut self) -> Result<()> {
        let module = self.line()?;
        let name = self.line()?;
        self.push(Object::Global(global(module, name)?))
    }

    fn line(&mut self) -> Result<&'a str> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or_else(|| broken("a name does not end"))? as u64)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|error| broken("a name is not UTF-8").caused_by(error))
    }

    fn global_from_stack(&mut self) -> Result<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (&self.objects[module], &self.objects[name]) {
            (Object::Text(module), Object::Text(name)) => {
                let global = global(module, name)?;
                self.push(Object::Global(global))
            }
            _ => Err(broken("a name is not a string")),
        }
    }

    /// Reads `("storage", type, key, device, count)`; the device is ignored.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        let parts = self.tuple(id);
        if let Some(
            [
                Object::Text(word),
                Object::Global(Global::Storage(kind)),
                Object::Text(key),
                _,
                Object::Int(count),
            ],
        ) = parts.as_deref()
            && word == "storage"
        {
            let (key, kind, count) = (key.clone(), *kind, *count);
            return self.push(Object::Storage(Storage { key, kind, count }));
        }
        Err(broken("a storage is not described as PyTorch does"))
    }

    fn tuple(&self, at: Ref) -> Option<Vec<&Object>> {
        match &self.objects[at] {
            Object::Tuple(items) => Some(items.iter().map(|&item| &self.objects[item]).collect()),
            _ => None,
        }
    }

    fn integers(&self, object: &Object) -> Option<Vec<i64>> {
        let Object::Tuple(items) = object else {
            return None;
        };
        let number = |&item: &Ref| match self.objects[item] {
            Object::Int(number) => Some(number),
            _ => None,
        };
        items.iter().map(number).collect()
    }

    /// Performs one of the three calls that a state dict consists of, each recognised by name and
    /// arguments.
    fn reduce(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let parts = self
            .tuple(arguments)
            .ok_or_else(|| broken("a call's arguments are not a tuple"))?;
        let made = match (&self.objects[function], parts.as_slice()) {
            (Object::Global(Global::OrderedDict), []) => Some(Object::Dict(Vec::new())),
            (Object::Global(Global::RebuildParameter), [Object::Tensor(view), ..]) => {
                Some(Object::Tensor(view.clone()))
            }
            (
                Object::Global(Global::RebuildTensor),
                [
                    Object::Storage(storage),
                    Object::Int(offset),
                    size,
                    stride,
                    ..,
                ],
            ) => {
                let shape = self.integers(size).zip(self.integers(stride));
                shape.map(|(size, stride)| {
                    let (storage, offset) = (storage.clone(), *offset);
                    Object::Tensor(View {
                        storage,
                        offset,
                        size,
                        stride,
                    })
                })
            }
            _ => None,
        };
        self.push(made.ok_or_else(|| {
            broken("it calls something with arguments that PyTorch does not write")
        })?)
    }

    /// Ignores `_metadata`, which `state_dict()` adds to the dict as an attribute. Nothing else has
    /// attributes.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        let top = self.top()?;
        match self.objects[top] {
            Object::Dict(_) => Ok(()),
            _ => Err(broken("it sets attributes of what is not a dict")),
        }
    }
}
