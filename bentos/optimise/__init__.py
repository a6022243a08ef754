"""Other forms of a packaged model: made, tried and measured in the gates' sandbox, kept as files with a digest of their own.

A middle room imports no other, and the sandbox is the policies'. So the sandbox runs `bentos.optimise.convert` and
`bentos.optimise.answer` by name, in the flow's introduction; they speak its two words themselves (`channel`).
"""
