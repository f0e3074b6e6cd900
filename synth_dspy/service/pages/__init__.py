"""Pages for people: forms and links that work without JavaScript, rendered on the server.

A page is a router made by a function that takes a `Site` and what it shows. The site renders templates, signs people
in, checks forms, and shows refusals as pages:

    def hello_routes(site: Site) -> APIRouter:
        router = APIRouter()
        site.add_link("/hello", "Hello")

        @router.get("/hello")
        async def show(request: Request) -> Response:
            return site.render(request, "hello.html.j2", rater=site.rater(request))

        @router.post("/hello")
        async def keep(request: Request) -> Response:
            form = await site.form(request)  # refused without the page's token
            return site.redirect("/hello")  # so that reloading sends nothing again

        return router

Templates extend `base.html.j2`; every form has `<input type="hidden" name="token" value="{{ token }}">`.
"""
