//! `Unsubscribe`: a subscription ends before its time.

use super::{Element, Malformed, Operation, Reader, Writer};

/// The request.
#[derive(Clone, Debug)]
pub struct Unsubscribe<'a> {
    /// The name of the subscription.
    pub subscription: &'a str,
}

impl Operation for Unsubscribe<'_> {
    const NAME: &'static str = "Unsubscribe";
    const EFFECT: bool = false;
    type Part = ();

    fn write(&self, writer: &mut Writer<'_>) {
        writer.nest("m:Unsubscribe", |writer| writer.text("m:SubscriptionId", self.subscription));
    }

    fn read(_: &mut Reader<'_>, _: &Element<'_>, (): &mut ()) -> Result<(), Malformed> {
        Ok(())
    }
}
