//! Apps on offer: their owner gives them away, and the recipient takes them or does not.
//!
//! ```text
//! pending ──► accepted
//!    └──────► declined
//! ```

use thiserror::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferState {
    /// The app is its owner's until the recipient says something.
    Pending,
    Accepted,
    Declined,
}

/// What the recipient says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Accept,
    Decline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("The transfer is {} already", .0.as_str())]
pub struct AlreadyAnswered(TransferState);

impl TransferState {
    const ALL: [Self; 3] = [Self::Pending, Self::Accepted, Self::Declined];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Declined => "declined",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// What an answer makes of it. An answer is given once.
    pub fn answered(self, answer: Answer) -> Result<Self, AlreadyAnswered> {
        match (self, answer) {
            (Self::Pending, Answer::Accept) => Ok(Self::Accepted),
            (Self::Pending, Answer::Decline) => Ok(Self::Declined),
            (Self::Accepted | Self::Declined, Answer::Accept | Answer::Decline) => Err(AlreadyAnswered(self)),
        }
    }
}

impl Answer {
    /// Reads the state that a client wants: Heroku's API is told what becomes of a transfer.
    pub fn parse(text: &str) -> Option<Self> {
        match TransferState::parse(text)? {
            TransferState::Accepted => Some(Self::Accept),
            TransferState::Declined => Some(Self::Decline),
            TransferState::Pending => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_given_once() {
        let pending = TransferState::Pending;
        assert_eq!(pending.answered(Answer::Accept), Ok(TransferState::Accepted));
        assert_eq!(pending.answered(Answer::Decline), Ok(TransferState::Declined));
        for state in [TransferState::Accepted, TransferState::Declined] {
            for answer in [Answer::Accept, Answer::Decline] {
                let refused = state.answered(answer).unwrap_err().to_string();
                assert_eq!(refused, format!("The transfer is {} already", state.as_str()));
            }
        }
    }

    #[test]
    fn answers_are_told_by_the_state_that_they_lead_to() {
        let read = ["accepted", "declined", "pending", "maybe"].map(Answer::parse);
        assert_eq!(read, [Some(Answer::Accept), Some(Answer::Decline), None, None]);
    }
}
