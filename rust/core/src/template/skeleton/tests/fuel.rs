//! A template that needs most of its fuel on short contents might run out of it on longer ones.

use super::{is_filled, writing};
use crate::dialogue::{Role, Turn};
use crate::template::Template;

/// A template with so many rounds of a loop, unless they cost too much.
fn looping(rounds: usize) -> Option<Template> {
    let header =
        format!("{{% if loop.first %}}{{% for i in range({rounds}) %}}{{% endfor %}}{{% endif %}}");
    writing(&header, "m.content")
}

#[test]
fn a_template_that_needs_more_than_half_of_its_fuel_is_rendered_with_jinja() {
    let turns = [Turn::new(Role::User, "a"), Turn::new(Role::Assistant, "a")];
    let rounds = || (1..).map(|step| 1_000 * step);
    let is_rendered =
        |rounds: usize| looping(rounds).is_some_and(|template| template.render(&turns).is_ok());
    let is_filled =
        |rounds: usize| looping(rounds).is_some_and(|template| is_filled(&template, &turns));
    let most = rounds().take_while(|rounds| is_rendered(*rounds)).last().expect("some are");
    let filled = rounds().take_while(|rounds| is_filled(*rounds)).last().expect("some are");
    assert!(filled * 3 / 2 < most && most < filled * 3, "{filled} of {most}");
}
