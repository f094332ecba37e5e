"""Calls language models through OpenAI-compatible HTTP APIs, concurrently, and pays only once.

Rows become plans (generators of calls), plans become answers, and every answer is in an
append-only log before it is used. A rerun sends only the calls that have no answer there.

plans       runs plans against endpoints, or replays them from the log only
client      sends one call: its slot, its budget, its retries, its lines in the log
call        calls, outcomes, and the key that identifies a call
reasons     the reasons why a call can fail, and their consequences
endpoints   reads the TOML file that names servers, models, limits and prices
secret      an API key that is never printed
http        sends one POST with deadlines, a size limit and no redirects
connector   opens and reuses the connections of calls
finish      the meaning of a text's `finish_reason`
reasoning   separates a model's reasoning from its answer
reader      parses the bytes of a reply into an answer or a failure
pace        computes the limits per minute, pauses and concurrency, without a clock
lane        the queue of calls to one endpoint
retry       decides when a failed call is tried again
budget      tracks the amounts spent and reserved, never above the cap
log         the file of calls
line        formats one line of that file
batch       writes and reads the files of a Batch API
forecast    what a run will take, without sending anything
probe       what an endpoint really does
errors      errors with their own exit codes
"""
