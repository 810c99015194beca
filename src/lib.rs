//! calib8
