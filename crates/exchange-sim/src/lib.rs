//! A fake Exchange on real HTTPS, for the demo, the tests and the load test.
