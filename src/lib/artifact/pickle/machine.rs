//! Runs a pickle: a stack, a memo, and one arm for each opcode of protocols 2 to 5 (Python's
//! `pickletools` documents them). Other opcodes are errors.

use super::{Object, Ref, broken};
use crate::{Error, Result};
use std::collections::HashMap;

/// Holds a pickle that is being run.
pub(super) struct Machine<'a> {
    rest: &'a [u8],
    objects: Vec<Object<'a>>,
    stack: Vec<Ref>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Ref>,
}

/// Indices of the objects that are made once, however often a pickle uses them.
const NONE: Ref = 0;
const FALSE: Ref = 1;
const FLOAT: Ref = 2;
const SET: Ref = 3;
const TRUE: Ref = 4;

impl<'a> Machine<'a> {
    /// Returns a machine at the start of a pickle.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            objects: vec![
                Object::None,
                Object::Bool(false),
                Object::Float,
                Object::Set,
                Object::Bool(true),
            ],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Runs up to the stop. Returns all objects, and the index of the one that is left on the
    /// stack.
    ///
    /// # Errors
    /// Fails when the pickle is damaged or uses another opcode, and after so many `operations`.
    pub fn run(mut self, operations: usize) -> Result<(Vec<Object<'a>>, Ref)> {
        for operation in 0.. {
            if operation == operations {
                return Err(broken(&format!("it has more than {operations} operations")));
            }
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
            0x80 => self.take(1).map(drop)?,
            0x95 => self.take(8).map(drop)?,
            // values
            b'N' => self.stack.push(NONE),
            0x88 => self.stack.push(TRUE),
            0x89 => self.stack.push(FALSE),
            b'G' => {
                self.take(8)?;
                self.stack.push(FLOAT);
            }
            b'K' => self.unsigned(1)?,
            b'M' => self.unsigned(2)?,
            b'J' => self.signed(4)?,
            0x8a => {
                let length = self.number(1)?;
                self.signed(length)?;
            }
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'U' | b'C' => self.bytes(1)?,
            b'T' | b'B' => self.bytes(4)?,
            0x8e | 0x96 => self.bytes(8)?,
            // containers
            b'}' => self.push(Object::Dict(Vec::new())),
            b']' => self.push(Object::List(Vec::new())),
            b')' => self.push(Object::Tuple(Vec::new())),
            0x85..=0x87 => self.short_tuple(usize::from(opcode - 0x84))?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Object::Tuple(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            0x8f => self.stack.push(SET),
            0x90 => self.pop_to_mark().map(drop)?,
            0x91 => {
                self.pop_to_mark()?;
                self.stack.push(SET);
            }
            // the stack itself
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop().map(drop)?,
            b'1' => self.pop_to_mark().map(drop)?,
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            // memo
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            0x94 => {
                let top = self.top()?;
                self.memo.insert(self.memo.len() as u64, top);
            }
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            // names and calls
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Object::Global(module, name));
            }
            0x93 => self.global_from_stack()?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Object::Persistent(id));
            }
            b'R' | 0x81 => self.call()?,
            0x92 => {
                self.pop()?;
                self.call()?;
            }
            b'b' => self.build()?,
            other => {
                return Err(Error::failed(format!(
                    "the pickle in the file uses the operation 0x{other:02x}, which is not read"
                )));
            }
        }
        Ok(())
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
        self.number(1).map(|byte| byte as u8)
    }

    /// Reads an unsigned little-endian number of `bytes` ≤ 8.
    fn number(&mut self, bytes: u64) -> Result<u64> {
        let digits = self.take(bytes)?.iter().rev();
        Ok(digits.fold(0, |number, &digit| number << 8 | u64::from(digit)))
    }

    /// Reads an integer in two's complement. One of more than 64 bits is a number that no format
    /// here has a use for, and becomes a float.
    fn signed(&mut self, bytes: u64) -> Result<()> {
        if bytes > 8 {
            self.take(bytes)?;
            self.stack.push(FLOAT);
            return Ok(());
        }
        let number = self.number(bytes)? as i64;
        let unused = if bytes == 0 { 0 } else { 64 - 8 * bytes };
        self.push(Object::Int(number << unused >> unused));
        Ok(())
    }

    fn unsigned(&mut self, bytes: u64) -> Result<()> {
        let number = self.number(bytes)? as i64;
        self.push(Object::Int(number));
        Ok(())
    }

    /// Reads a string whose length has `bytes` bytes.
    fn text(&mut self, bytes: u64) -> Result<()> {
        let length = self.number(bytes)?;
        let text = std::str::from_utf8(self.take(length)?);
        let text = text.map_err(|error| broken("a string is not UTF-8").caused_by(error))?;
        self.push(Object::Text(text));
        Ok(())
    }

    /// Reads a byte string whose length has `bytes` bytes.
    fn bytes(&mut self, bytes: u64) -> Result<()> {
        let length = self.number(bytes)?;
        let taken = self.take(length)?;
        self.push(Object::Bytes(taken));
        Ok(())
    }

    fn push(&mut self, object: Object<'a>) {
        self.stack.push(self.objects.len());
        self.objects.push(object);
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
        self.push(Object::Tuple(items));
        Ok(())
    }

    fn append(&mut self, items: &[Ref]) -> Result<()> {
        let top = self.top()?;
        match &mut self.objects[top] {
            Object::List(list) => list.extend(items),
            Object::Call { .. } => {}
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
            (Object::Call { .. }, (_, [])) => {}
            _ => return Err(broken("it sets items of what is not a dict")),
        }
        Ok(())
    }

    /// Stores the topmost object under a number of `bytes` bytes.
    fn remember(&mut self, bytes: u64) -> Result<()> {
        let slot = self.number(bytes)?;
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    /// Puts what is stored under a number of `bytes` bytes on the stack.
    fn recall(&mut self, bytes: u64) -> Result<()> {
        let slot = self.number(bytes)?;
        let known = self.memo.get(&slot);
        let known = known.ok_or_else(|| broken("it recalls what was not stored"))?;
        self.stack.push(*known);
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str> {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or_else(|| broken("a name does not end"))? as u64)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|error| broken("a name is not UTF-8").caused_by(error))
    }

    fn global_from_stack(&mut self) -> Result<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Object::Text(module), Object::Text(name)) =
            (&self.objects[module], &self.objects[name])
        else {
            return Err(broken("a name is not a string"));
        };
        self.push(Object::Global(module, name));
        Ok(())
    }

    /// Records a call. An empty `OrderedDict` is a dict.
    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let empty = match &self.objects[arguments] {
            Object::Tuple(items) => items.is_empty(),
            _ => return Err(broken("a call's arguments are not a tuple")),
        };
        let made = match self.objects[function] {
            Object::Global("collections", "OrderedDict") if empty => Object::Dict(Vec::new()),
            Object::Global(..) => Object::Call {
                function,
                arguments,
                state: None,
            },
            _ => return Err(broken("it calls what is neither a class nor a function")),
        };
        self.push(made);
        Ok(())
    }

    /// Records the state that an object is given. That of a dict is ignored: `state_dict()` adds
    /// `_metadata`, an attribute.
    fn build(&mut self) -> Result<()> {
        let given = self.pop()?;
        let top = self.top()?;
        match &mut self.objects[top] {
            Object::Dict(_) => Ok(()),
            Object::Call { state, .. } => {
                *state = Some(given);
                Ok(())
            }
            _ => Err(broken("it sets attributes of what has none")),
        }
    }
}
