//! Random keys and sizes: nothing panics, whatever is pressed and however small the terminal is.

use calib8::tui::action::specs;
use calib8::tui::keymap::Key;
use calib8::tui::{Msg, update};
use proptest::prelude::*;

use super::support::*;

fn keys() -> Vec<Key> {
    let bound = specs().flat_map(|spec| spec.keys).map(|key| key.parse().unwrap());
    let others = ["enter", "esc", "backspace", "left", "right", "a", "é", "日", "ctrl-w", "f9", "delete"];
    let mut keys: Vec<Key> = bound.chain(others.map(|key| key.parse().unwrap())).collect();
    keys.dedup();
    keys
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn random_keys_at_random_sizes_never_panic(
        steps in proptest::collection::vec((any::<prop::sample::Index>(), 1u16..140, 1u16..50), 1..60),
    ) {
        let keys = keys();
        let mut app = filled();
        for (key, width, height) in steps {
            update(&mut app, Msg::Key(*key.get(&keys)));
            app.exit = None;
            draw(&mut app, (width, height));
        }
    }
}

#[test]
fn every_tab_and_box_can_be_drawn_at_any_size() {
    for keys in ["1", "2", "3", "4", "?", ":", "M", "n", "R", "d", "o 2", "down down enter", "down enter"] {
        let mut app = filled();
        press(&mut app, keys);
        for width in 1..70 {
            for height in 1..20 {
                draw(&mut app, (width, height));
            }
        }
    }
}
