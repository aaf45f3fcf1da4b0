//! Room in memory for the head of a dyno's answer while it is on its way and hyper collects it.
//!
//! A little is everybody's. Whoever lets large heads wait by the thousand has only so much as the app may hold.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::places::{AppPlaces, Hold, LITTLE_BYTES, TooMuchHeld};

#[derive(Debug, Default)]
pub(crate) struct HeadRoom {
    awaited: Mutex<Option<Awaited>>,
    refused: AtomicBool,
}

#[derive(Debug)]
struct Awaited {
    places: Arc<AppPlaces>,
    /// How many bytes had come over the connection before it.
    begin: u64,
    bytes_max: usize,
    held: Option<Hold>,
}

impl HeadRoom {
    /// A head begins that may be as long as `bytes_max`, for an app with these places.
    pub(crate) fn begin(&self, places: &Arc<AppPlaces>, begin: u64, bytes_max: usize) {
        self.set(Some(Awaited { places: places.clone(), begin, bytes_max, held: None }));
    }

    /// It has come, or never will. Whether the connection was given up for it.
    pub(crate) fn end(&self) -> bool {
        self.set(None);
        self.refused.load(Ordering::Relaxed)
    }

    /// To be asked before more is read: as long as hyper reads on, the head is not complete.
    ///
    /// # Errors
    /// There is no room for more of it.
    pub(crate) fn make(&self, bytes_read: u64) -> Result<(), TooMuchHeld> {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(awaited) = awaited.as_mut()
            && awaited.held.is_none()
            && bytes_read - awaited.begin >= LITTLE_BYTES as u64
        {
            let held = awaited.places.hold(awaited.bytes_max);
            self.refused.store(held.is_err(), Ordering::Relaxed);
            awaited.held = held?;
        }
        Ok(())
    }

    fn set(&self, awaited: Option<Awaited>) {
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = awaited;
    }
}
