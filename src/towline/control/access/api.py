"""REST routes of identity: signing in and out, who one is, tokens, users, grants, sessions, tickets."""

from fastapi import APIRouter

router = APIRouter(prefix="/api/v1", tags=["access"])
