"""The console in a real browser, by hand: no part of CI."""
