//! The fields of one header block, in one piece of memory. Pure.

/// What a field counts besides its bytes (RFC 9113, 6.5.2).
pub(super) const FIELD_OVERHEAD: usize = 32;

#[derive(Debug, Default)]
pub(super) struct HeaderList {
    /// Names and values, one behind the other.
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// By the rule of `SETTINGS_MAX_HEADER_LIST_SIZE`.
    size: usize,
    /// There was more than the limit, and this is not all.
    pub(super) is_cut: bool,
}

/// Where a field ends; it begins where the one before it ended.
#[derive(Debug, Clone, Copy)]
struct Field {
    name_end: usize,
    value_end: usize,
}

impl HeaderList {
    /// With room for a usual head.
    pub(super) fn with_room() -> Self {
        Self { bytes: Vec::with_capacity(512), fields: Vec::with_capacity(16), size: 0, is_cut: false }
    }

    /// Adds a field, unless that makes the list larger than `size_max`.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8], size_max: usize) {
        self.size = self.size.saturating_add(name.len() + value.len() + FIELD_OVERHEAD);
        self.is_cut |= self.size > size_max;
        if self.is_cut {
            return;
        }
        self.bytes.extend_from_slice(name);
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.fields.push(Field { name_end, value_end: self.bytes.len() });
    }

    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut begin = 0;
        self.fields.iter().map(move |field| {
            let name = &self.bytes[begin..field.name_end];
            begin = field.value_end;
            (name, &self.bytes[field.name_end..field.value_end])
        })
    }
}
