//! The text of a `Date` header, made once a second.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub(crate) struct DateText {
    second: Cell<u64>,
    text: RefCell<Rc<str>>,
}

impl Default for DateText {
    fn default() -> Self {
        Self { second: Cell::new(0), text: RefCell::new(Rc::from("")) }
    }
}

impl DateText {
    pub(crate) fn now(&self) -> Rc<str> {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.second.replace(second) != second {
            let date = UNIX_EPOCH + Duration::from_secs(second);
            *self.text.borrow_mut() = httpdate::fmt_http_date(date).into();
        }
        self.text.borrow().clone()
    }
}
