// Package fault breaks a running Allim on purpose and looks whether it kept what it promises: processes as in production, real Redis servers with
// proxies in front of them, callers that repeat with the same id until they have an answer, readers that speak frames. Everything that was asked,
// answered and delivered goes into a log, and rules that are pure functions of the log judge it at the end.
//
// Every reader is both kinds of client: its connections are held to what the wire promises, frame by frame, and what it shows a person to what an
// SDK promises.
//
// ALLIM_SEED repeats a schedule; each scenario prints its own, and one that fails how to run it again. The log of each stands in ALLIM_FAULT_LOGS, or
// dist/fault, as JSON lines, beside a picture of it and table.md with the proofs and figures of the run.
//
// The rules and their own test run with the ordinary tests. The scenarios take minutes and measure time, so they stand behind the build tag `fault`:
// `make fault` runs all of them, and each guard of the product is taken away once to see a scenario fail; `make fault-short` runs a selection.
package fault
