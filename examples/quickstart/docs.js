// All URLs are relative: the page works behind a prefix, too. Without credentials, the browser
// opens no password window of its own when a client secret is wrong.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  requestInterceptor: (request) => Object.assign(request, { credentials: "omit" }),
});
