"""Decisions about a swap as plain data: plan, blueprints, verdict, costs, remedies."""
