#include "connectors/http/embedded.h"
#include "connectors/http/handlers.h"

namespace nudge {

Handled GetPage(const HttpRequest& request, const Scene&) {
  HttpResponse response;
  if (request.path == "/page.js" || request.path == "/lessons.js") {
    response.type = "text/javascript; charset=utf-8";
    response.body = request.path == "/page.js" ? PageScript() : LessonsScript();
  } else if (request.path == "/page.css") {
    response.type = "text/css; charset=utf-8";
    response.body = PageStyle();
  } else {
    response.type = "text/html; charset=utf-8";
    response.body = PageHtml();
  }
  // Its own files alone, in no frame: a text that is shown cannot become a script that runs.
  response.headers = {{"Content-Security-Policy",
                       "default-src 'none'; script-src 'self'; style-src 'self'; connect-src "
                       "'self'; img-src data:; form-action 'none'; base-uri 'none'; "
                       "frame-ancestors 'none'"},
                      {"Referrer-Policy", "no-referrer"},
                      {"Cache-Control", "no-cache"}};
  return response;
}

}  // namespace nudge
