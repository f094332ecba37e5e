"""Asks language models behind any OpenAI-compatible HTTP API, many at once, and pays once.

Rows become plans (generators of calls), plans become answers, and every answer is in an
append-only log before it is used. A rerun sends only the calls that have no answer there.

plans       drives plans against endpoints, or replays them from the log alone
client      one call: its slot, its budget, its retries, its lines in the log
call        what is asked, what comes back, and the key that names a call
reasons     why a call failed, and what follows from each reason
endpoints   reads the TOML file that names servers, models, limits and prices
secret      an API key that no text shows
http        one POST: deadlines, a size cap, no redirects
reader      the bytes of a reply to an answer or a failure
pace        requests and tokens a minute, pauses, concurrency: pure arithmetic on a clock
lane        the queue of calls in front of one endpoint
retry       when a failed call is tried again
budget      what was spent and what is reserved, never above the cap
log         the file of calls
line        one line of that file
batch       files of a Batch API, out and in
forecast    what a run will take, without sending anything
probe       what an endpoint really does
errors      errors with an exit code of their own
"""
