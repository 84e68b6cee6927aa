"""The longest lag of the last seconds."""

from hub.loop_lag import WINDOW, LoopLag


def test_the_longest_lag_is_remembered_for_the_window_and_then_forgotten() -> None:
    lag = LoopLag()
    assert lag.longest == 0.0
    lag.add(0.3, 100.0)
    lag.add(0.2, 101.0)
    assert lag.longest == 0.3
    for second in range(102, 111):
        lag.add(0.1, float(second))
        expected = 0.3 if second < 100 + WINDOW else 0.1
        assert lag.longest == expected


def test_a_lag_from_before_a_pause_is_forgotten() -> None:
    lag = LoopLag()
    lag.add(0.3, 100.0)
    lag.add(0.1, 100.0 + 2 * WINDOW)
    assert lag.longest == 0.1
